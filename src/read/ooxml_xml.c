/* A walker over one part's XML, by libxml2's pull reader.
 *
 * No entity is ever defined: a part with a DOCTYPE is refused before parsing (forbidden_xml), and
 * again should the parser meet one. Nothing is loaded, nesting ends at libxml2's 256 levels, and
 * the number of nodes is bounded. */
#include "read/ooxml.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NODES ((uint64_t)100 << 20)

static xmlParserInputPtr load_nothing(const char *url, const char *id, xmlParserCtxtPtr context) {
    (void)url;
    (void)id;
    (void)context;
    return NULL;
}

static void say_nothing(void *context, const char *format, ...) {
    (void)context;
    (void)format;
}

void xml_prepare(void) {
    xmlInitParser();
    xmlSetExternalEntityLoader(load_nothing);
    xmlSetGenericErrorFunc(NULL, say_nothing);
}

/* The last four bytes seen, as one number, are compared with these. */
#define TAIL(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

/* A DOCTYPE before the first element, in any encoding that keeps ASCII's bytes (UTF-16's zero bytes
 * are passed over). */
static bool has_doctype(const char *data, size_t len) {
    enum { PLAIN, COMMENT, INSTRUCTION } in = PLAIN;
    uint32_t tail = 0;
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\0')
            continue;
        tail = tail << 8 | (unsigned char)data[i];
        if (in == COMMENT) {
            in = (tail & 0xFFFFFF) == TAIL(0, '-', '-', '>') ? PLAIN : COMMENT;
        } else if (in == INSTRUCTION) {
            in = (tail & 0xFFFF) == TAIL(0, 0, '?', '>') ? PLAIN : INSTRUCTION;
        } else if (tail == TAIL('<', '!', '-', '-')) {
            in = COMMENT;
        } else if (tail == TAIL('<', '!', 'D', 'O')) {
            return true;
        } else if ((tail & 0xFFFF) == TAIL(0, 0, '<', '?')) {
            in = INSTRUCTION;
        } else if ((tail & 0xFF00) == TAIL(0, 0, '<', 0) && (char)tail != '!') {
            return false; /* the root element */
        }
    }
    return false;
}

bool xml_open(struct xml *xml, struct ooxml_zip *zip, const char *part, struct error *err) {
    memset(xml, 0, sizeof(*xml));
    xml->part = part;
    xml->depth = -1;
    size_t len = 0;
    if (!ooxml_zip_read(&xml->data, &len, zip, part, err))
        return false;
    if (has_doctype(xml->data, len)) {
        mem_free(xml->data);
        return error_set_code(err, ERROR_INPUT, "forbidden_xml", "%s has a DOCTYPE", part);
    }
    xml_prepare();
    xml->reader = xmlReaderForMemory(xml->data, (int)len, NULL, NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                         XML_PARSE_COMPACT);
    if (xml->reader == NULL) {
        mem_free(xml->data);
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for %s", part);
    }
    return true;
}

bool xml_close(struct xml *xml, struct error *err) {
    xmlFreeTextReader(xml->reader);
    mem_free(xml->data);
    if (xml->failed && err != NULL)
        *err = xml->err;
    return !xml->failed;
}

static char classify(const char *uri) {
    static const struct {
        const char *word;
        char ns;
    } known[] = {
        {"/wordprocessingml/", 'w'},
        {"/drawingml/main", 'a'},
        {"/drawingml/2006/main", 'a'},
        {"/drawingml/chart", 'c'},
        {"/drawingml/2006/chart", 'c'},
        {"/drawingml/diagram", 'g'},
        {"/drawingml/2006/diagram", 'g'},
        {"/presentationml/", 'p'},
        {"/spreadsheetml/", 's'},
        {"/officeDocument/2006/math", 'm'},
        {"/officeDocument/math", 'm'},
        {"/officeDocument/2006/relationships", 'r'},
        {"/officeDocument/relationships", 'r'},
        {"/markup-compatibility/", 'e'},
        {"/package/2006/metadata/core-properties", 'd'},
        {"purl.org/dc/", 'd'},
        {"/package/2006/", 'k'},
        {"schemas-microsoft-com:vml", 'v'},
    };
    for (size_t i = 0; i < BASE_COUNT(known); i++) {
        if (strstr(uri, known[i].word) != NULL)
            return known[i].ns;
    }
    return '?';
}

static char ns_of(struct xml *xml, const xmlChar *uri) {
    if (uri == NULL)
        return '-';
    if (uri != xml->last_uri) { /* the reader interns them */
        xml->last_uri = uri;
        xml->last_ns = classify((const char *)uri);
    }
    return xml->last_ns;
}

static bool fail(struct xml *xml) {
    xml->failed = true;
    xml->type = XML_READER_TYPE_NONE;
    xml->name = NULL;
    return false;
}

/* One node on. False at the end or on damage. */
static bool step(struct xml *xml) {
    if (xml->failed)
        return false;
    if (++xml->n_nodes > MAX_NODES) {
        error_set_code(&xml->err, ERROR_LIMIT, "archive_limit", "%s has too many nodes", xml->part);
        return fail(xml);
    }
    int more = xmlTextReaderRead(xml->reader);
    if (more < 0) {
        error_set_code(&xml->err, ERROR_INPUT, "corrupt", "%s is damaged XML at line %d", xml->part,
                       xmlTextReaderGetParserLineNumber(xml->reader));
        return fail(xml);
    }
    if (more == 0) {
        xml->type = XML_READER_TYPE_NONE;
        xml->name = NULL;
        xml->depth = -1;
        return false;
    }
    xml->type = xmlTextReaderNodeType(xml->reader);
    xml->depth = xmlTextReaderDepth(xml->reader);
    xml->name = NULL;
    xml->empty = false;
    if (xml->type == XML_READER_TYPE_DOCUMENT_TYPE || xml->type == XML_READER_TYPE_ENTITY ||
        xml->type == XML_READER_TYPE_ENTITY_REFERENCE) {
        error_set_code(&xml->err, ERROR_INPUT, "forbidden_xml", "%s has a DOCTYPE or an entity",
                       xml->part);
        return fail(xml);
    }
    if (xml->type == XML_READER_TYPE_ELEMENT) {
        xml->name = (const char *)xmlTextReaderConstLocalName(xml->reader);
        xml->ns = ns_of(xml, xmlTextReaderConstNamespaceUri(xml->reader));
        xml->empty = xmlTextReaderIsEmptyElement(xml->reader) == 1;
    }
    return true;
}

bool xml_next(struct xml *xml, int depth) {
    if (depth >= 0 && xml->depth <= depth && (xml->type != XML_READER_TYPE_ELEMENT || xml->empty))
        return false; /* it has no inside, or its end was met already */
    while (step(xml)) {
        if (xml->depth <= depth)
            return false;
        if (xml->type == XML_READER_TYPE_ELEMENT || xml->type == XML_READER_TYPE_TEXT ||
            xml->type == XML_READER_TYPE_CDATA ||
            xml->type == XML_READER_TYPE_SIGNIFICANT_WHITESPACE)
            return true;
    }
    return false;
}

void xml_skip(struct xml *xml) {
    int depth = xml->depth;
    while (xml_next(xml, depth))
        ;
}

bool xml_at(const struct xml *xml, const char *name) {
    return xml->name != NULL && xml->ns == name[0] && strcmp(xml->name, name + 2) == 0;
}

const char *xml_attr(const struct xml *xml, const char *name) {
    if (xml->type != XML_READER_TYPE_ELEMENT)
        return NULL;
    bool qualified = name[0] != '\0' && name[1] == ':';
    const char *local = qualified ? name + 2 : name;
    const xmlNode *node = xmlTextReaderCurrentNode(xml->reader);
    for (const xmlAttr *attr = node == NULL ? NULL : node->properties; attr != NULL;
         attr = attr->next) {
        if (strcmp((const char *)attr->name, local) != 0)
            continue;
        char ns = attr->ns == NULL || attr->ns->href == NULL
                      ? '-'
                      : classify((const char *)attr->ns->href);
        if (qualified ? ns != name[0] : ns != '-' && ns != xml->ns)
            continue;
        if (attr->children == NULL || attr->children->content == NULL)
            return "";
        return (const char *)attr->children->content;
    }
    return NULL;
}

long xml_attr_int(const struct xml *xml, const char *name, long fallback) {
    const char *value = xml_attr(xml, name);
    if (value == NULL)
        return fallback;
    char *end;
    long number = strtol(value, &end, 10);
    return end == value ? fallback : number;
}

bool xml_attr_true(const struct xml *xml, const char *name, bool fallback) {
    const char *value = xml_attr(xml, name);
    if (value == NULL)
        return fallback;
    return strcmp(value, "0") != 0 && strcmp(value, "false") != 0 && strcmp(value, "off") != 0;
}

const char *xml_text(const struct xml *xml) {
    if (xml->type != XML_READER_TYPE_TEXT && xml->type != XML_READER_TYPE_CDATA &&
        xml->type != XML_READER_TYPE_SIGNIFICANT_WHITESPACE)
        return "";
    const char *text = (const char *)xmlTextReaderConstValue(xml->reader);
    return text == NULL ? "" : text;
}

void xml_gather(struct xml *xml, struct flow_text *text) {
    int depth = xml->depth;
    while (xml_next(xml, depth))
        flow_text_puts(text, xml_text(xml));
}
