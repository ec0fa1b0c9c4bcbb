/* read, inside: the parts of an OOXML package and a walker over their XML. */
#ifndef DOCUSEARCH_READ_OOXML_H
#define DOCUSEARCH_READ_OOXML_H

#include <libxml/xmlreader.h>

#include "read/flow.h"

/* ---- ooxml_zip.c: parts -------------------------------------------------------------------- */

#define OOXML_MAX_ENTRIES 10000
#define OOXML_MAX_PART ((uint64_t)256 << 20)
#define OOXML_MAX_TOTAL ((uint64_t)512 << 20)
#define OOXML_MAX_RATIO 100
#define OOXML_RATIO_FROM ((uint64_t)1 << 20) /* produced bytes below which no ratio is refused */

struct ooxml_zip;
/* data is borrowed until close. Judged as container_check says. */
bool ooxml_zip_open(struct ooxml_zip **out, const void *data, size_t size, struct error *err);
void ooxml_zip_close(struct ooxml_zip *zip); /* NULL is fine */
/* A part's bytes, the caller's (mem_free). ERROR_MISSING where there is none of that name. */
bool ooxml_zip_read(char **data, size_t *len, struct ooxml_zip *zip, const char *name,
                    struct error *err);
bool ooxml_zip_has(struct ooxml_zip *zip, const char *name);

/* ---- ooxml_xml.c: the walker --------------------------------------------------------------- */

/* Elements are known by a letter for their namespace (transitional and strict alike) and their
 * local name: "w:p". w Word, a DrawingML, p PowerPoint, s Excel, m math, c chart, e markup
 * compatibility, r relationships (attributes), g diagram, v VML, k package, d properties,
 * '-' none, '?' any other. */
struct xml {
    xmlTextReaderPtr reader;
    char *data;
    const char *part;
    const char *name; /* of the node it stands at; NULL at text */
    char ns;
    int depth, type;
    bool empty;
    bool failed;
    uint64_t n_nodes;
    const xmlChar *last_uri;
    char last_ns;
    struct error err;
};
/* Opens a part. False with ERROR_MISSING where the package has none, forbidden_xml for a DOCTYPE.
 */
bool xml_open(struct xml *xml, struct ooxml_zip *zip, const char *part, struct error *err);
/* False, with what went wrong on the way, where the part could not be read to its end. */
bool xml_close(struct xml *xml, struct error *err);
/* The next element or text inside the element that stood at `depth` (-1: the whole part), in
 * document order and however deep; false at that element's end. What a handler has walked already
 * is not met again. */
bool xml_next(struct xml *xml, int depth);
void xml_skip(struct xml *xml);                       /* past the element it stands at */
bool xml_at(const struct xml *xml, const char *name); /* an element, "w:p" */
/* An attribute of the element it stands at: "val" (no namespace, or the element's own) or "r:id".
 * Borrowed until the next step; NULL where there is none. */
const char *xml_attr(const struct xml *xml, const char *name);
long xml_attr_int(const struct xml *xml, const char *name, long fallback);
bool xml_attr_true(const struct xml *xml, const char *name, bool fallback); /* OOXML's booleans */
const char *xml_text(const struct xml *xml); /* of the text it stands at; "" elsewhere */
/* All text inside the element it stands at, which is walked. */
void xml_gather(struct xml *xml, struct flow_text *text);
void xml_prepare(void);

/* ---- ooxml.c: the package ------------------------------------------------------------------ */

struct ooxml {
    struct ooxml_zip *zip;
    struct flow *flow;
    struct arena *arena;
    struct read_task *task;
};
struct ooxml_rel {
    const char *id, *type, *target; /* type: what follows its last '/'; target: a part's name */
    bool external;
};
struct ooxml_rels {
    struct ooxml_rel *items;
    size_t n;
};
/* The relationships of a part ("" the package's); none where it has no such file. */
bool ooxml_rels_read(struct ooxml_rels *out, struct ooxml *ooxml, const char *part,
                     struct error *err);
const char *ooxml_rel_target(const struct ooxml_rels *rels, const char *id);    /* NULL: none */
const char *ooxml_rel_of_type(const struct ooxml_rels *rels, const char *type); /* the first */
/* The words of a chart: its titles, the names of its series, its categories. */
bool ooxml_chart_text(struct flow_text *text, struct ooxml *ooxml, const char *part,
                      struct error *err);
/* The words of a diagram's (SmartArt's) data part, a line a shape. */
bool ooxml_diagram_text(struct flow_text *text, struct ooxml *ooxml, const char *part,
                        struct error *err);
/* The text of the DrawingML paragraphs inside the element xml stands at, a line a paragraph. */
void ooxml_drawing_text(struct xml *xml, struct flow_text *text);
/* m:oMath or m:oMathPara it stands at, as linear text: (a+b)/c, x^2, sqrt(y). */
void ooxml_math(struct xml *xml, struct flow_text *text);

bool ooxml_word(struct ooxml *ooxml, const char *part, struct error *err);
bool ooxml_slides(struct ooxml *ooxml, const char *part, struct error *err);
bool ooxml_sheets(struct ooxml *ooxml, const char *part, struct error *err);

/* ooxml_number.c: a number as a format code shows it ("#,##0.00", "yyyy-mm-dd"). */
void ooxml_number(struct buf *out, double value, const char *format, bool date_1904);
const char *ooxml_number_builtin(long id); /* "General" for those that are none */

#endif
