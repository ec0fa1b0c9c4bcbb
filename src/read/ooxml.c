/* An OOXML package: its kind, relationships and properties, and what Word, PowerPoint and Excel
 * files share (charts, diagrams, DrawingML text). */
#include "read/ooxml.h"

#include <string.h>

#include "read/container.h"

/* ---- relationships ------------------------------------------------------------------------- */

/* "ppt/slides/slide1.xml" and "../charts/chart1.xml" give "ppt/charts/chart1.xml"; a target never
 * leads out of the package. */
static char *resolve(struct arena *arena, const char *part, const char *target) {
    const char *slash = strrchr(part, '/');
    size_t folder = target[0] == '/' || slash == NULL ? 0 : (size_t)(slash - part) + 1;
    char *path = arena_printf(arena, "%.*s%s", (int)folder, part,
                              target[0] == '/' ? target + 1 : target);
    char *out = path;
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, "/");
        const char *next = p + len + (p[len] == '/');
        if (len == 2 && memcmp(p, "..", 2) == 0) {
            if (out > path)
                out--; /* the slash that ends the folder before */
            while (out > path && out[-1] != '/')
                out--;
        } else if (!(len == 1 && *p == '.') && len > 0) {
            memmove(out, p, (size_t)(next - p));
            out += next - p;
        }
        p = next;
    }
    *out = '\0';
    return path;
}

bool ooxml_rels_read(struct ooxml_rels *out, struct ooxml *ooxml, const char *part,
                     struct error *err) {
    memset(out, 0, sizeof(*out));
    const char *slash = strrchr(part, '/');
    size_t folder = slash == NULL ? 0 : (size_t)(slash - part) + 1;
    char *name = arena_printf(ooxml->arena, "%.*s_rels/%s.rels", (int)folder, part, part + folder);
    struct xml xml;
    struct error why;
    if (!xml_open(&xml, ooxml->zip, name, &why)) {
        if (why.kind == ERROR_MISSING)
            return true;
        *err = why;
        return false;
    }
    size_t cap = 0;
    while (xml_next(&xml, -1)) {
        if (!xml_at(&xml, "k:Relationship"))
            continue;
        const char *id = xml_attr(&xml, "Id"), *type = xml_attr(&xml, "Type");
        const char *target = xml_attr(&xml, "Target"), *mode = xml_attr(&xml, "TargetMode");
        if (id == NULL || type == NULL || target == NULL)
            continue;
        if (out->n == cap) {
            cap = cap == 0 ? 16 : cap * 2;
            struct ooxml_rel *items = arena_alloc(ooxml->arena, cap * sizeof(*items));
            if (out->n > 0)
                memcpy(items, out->items, out->n * sizeof(*items));
            out->items = items;
        }
        struct ooxml_rel *rel = &out->items[out->n++];
        const char *last = strrchr(type, '/');
        rel->id = arena_strdup(ooxml->arena, id);
        rel->type = arena_strdup(ooxml->arena, last == NULL ? type : last + 1);
        rel->external = mode != NULL && strcmp(mode, "External") == 0;
        rel->target = rel->external ? "" : resolve(ooxml->arena, part, target);
    }
    return xml_close(&xml, err);
}

const char *ooxml_rel_target(const struct ooxml_rels *rels, const char *id) {
    for (size_t i = 0; id != NULL && i < rels->n; i++) {
        if (strcmp(rels->items[i].id, id) == 0)
            return rels->items[i].external ? NULL : rels->items[i].target;
    }
    return NULL;
}

const char *ooxml_rel_of_type(const struct ooxml_rels *rels, const char *type) {
    for (size_t i = 0; i < rels->n; i++) {
        if (strcmp(rels->items[i].type, type) == 0 && !rels->items[i].external)
            return rels->items[i].target;
    }
    return NULL;
}

/* ---- charts, diagrams, DrawingML ----------------------------------------------------------- */

/* A part that is not there is no reason to refuse the document. */
static bool open_optional(struct xml *xml, bool *there, struct ooxml *ooxml, const char *part,
                          struct error *err) {
    struct error why;
    *there = xml_open(xml, ooxml->zip, part, &why);
    if (*there || why.kind == ERROR_MISSING)
        return true;
    *err = why;
    return false;
}

static void chart_values(struct xml *xml, struct flow_text *text) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "c:v") || xml_at(xml, "a:t")) {
            xml_gather(xml, text);
            flow_text_break(text);
        } else if (xml_at(xml, "c:f")) {
            xml_skip(xml);
        }
    }
}

bool ooxml_chart_text(struct flow_text *text, struct ooxml *ooxml, const char *part,
                      struct error *err) {
    struct xml xml;
    bool there, categories = false;
    if (!open_optional(&xml, &there, ooxml, part, err))
        return false;
    if (!there)
        return true;
    while (xml_next(&xml, -1)) {
        if (xml_at(&xml, "e:Fallback")) {
            xml_skip(&xml);
        } else if (xml_at(&xml, "c:title")) {
            chart_values(&xml, text);
        } else if (xml_at(&xml, "c:tx")) {
            chart_values(&xml, text); /* a series' name */
        } else if (xml_at(&xml, "c:cat")) {
            if (categories)
                xml_skip(&xml); /* every series repeats them */
            else
                chart_values(&xml, text);
            categories = true;
        }
    }
    return xml_close(&xml, err);
}

void ooxml_drawing_text(struct xml *xml, struct flow_text *text) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "a:p") || xml_at(xml, "a:br"))
            flow_text_break(text);
        else if (xml_at(xml, "a:t"))
            xml_gather(xml, text);
        else if (xml_at(xml, "m:oMath"))
            ooxml_math(xml, text);
        else if (xml_at(xml, "e:Fallback"))
            xml_skip(xml);
    }
}

bool ooxml_diagram_text(struct flow_text *text, struct ooxml *ooxml, const char *part,
                        struct error *err) {
    struct xml xml;
    bool there;
    if (!open_optional(&xml, &there, ooxml, part, err))
        return false;
    if (!there)
        return true;
    while (xml_next(&xml, -1)) {
        if (xml_at(&xml, "g:t"))
            ooxml_drawing_text(&xml, text);
    }
    return xml_close(&xml, err);
}

/* ---- the package --------------------------------------------------------------------------- */

static bool read_properties(struct ooxml *ooxml, const char *part, struct error *err) {
    struct xml xml;
    bool there;
    if (!open_optional(&xml, &there, ooxml, part, err))
        return false;
    if (!there)
        return true;
    struct flow_text text = {0};
    while (xml_next(&xml, -1)) {
        const char **field = xml_at(&xml, "d:title")     ? &ooxml->flow->title
                             : xml_at(&xml, "d:creator") ? &ooxml->flow->author
                             : xml_at(&xml, "d:created") ? &ooxml->flow->created
                                                         : NULL;
        if (field == NULL)
            continue;
        flow_text_clear(&text);
        xml_gather(&xml, &text);
        if (text.buf.len > 0)
            *field = arena_strndup(ooxml->arena, text.buf.data, text.buf.len);
    }
    flow_text_fini(&text);
    return xml_close(&xml, err);
}

static bool read_package(struct ooxml *ooxml, enum read_format kind, struct error *err) {
    struct ooxml_rels rels;
    if (!ooxml_rels_read(&rels, ooxml, "", err))
        return false;
    const char *properties = ooxml_rel_of_type(&rels, "core-properties");
    if (properties != NULL && !read_properties(ooxml, properties, err))
        return false;
    const char *main_part = ooxml_rel_of_type(&rels, "officeDocument");
    switch ((int)kind) {
    case FORMAT_DOCX:
        return ooxml_word(ooxml, main_part != NULL ? main_part : "word/document.xml", err);
    case FORMAT_PPTX:
        return ooxml_slides(ooxml, main_part != NULL ? main_part : "ppt/presentation.xml", err);
    case FORMAT_XLSX:
        return ooxml_sheets(ooxml, main_part != NULL ? main_part : "xl/workbook.xml", err);
    }
    return error_set_code(err, ERROR_INPUT, "corrupt", "no document in the package");
}

bool flow_read_ooxml(struct flow *flow, struct read_task *task, struct error *err) {
    if (!container_check(task->data, task->size, err))
        return false;
    struct ooxml ooxml = {.flow = flow, .arena = flow->arena, .task = task};
    if (!ooxml_zip_open(&ooxml.zip, task->data, task->size, err))
        return false;
    struct error why = {0};
    bool ok = read_package(&ooxml, ooxml_kind(task->data, task->size), &why);
    ooxml_zip_close(ooxml.zip);
    if (ok)
        return true;
    if (why.kind == ERROR_MISSING) /* a part that must be there */
        return error_set_code(err, ERROR_INPUT, "corrupt", "%s", why.text);
    if (err != NULL)
        *err = why;
    return false;
}
