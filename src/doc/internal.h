/* doc, inside: what the files of this module share. */
#ifndef DOCUSEARCH_DOC_INTERNAL_H
#define DOCUSEARCH_DOC_INTERNAL_H

#include "doc/doc.h"

/* True for the elements that repeat what stands elsewhere: no chunk and no Markdown has them. */
static inline bool element_is_repeated(const struct doc_element *element) {
    return (element->flags & DOC_REPEATED) != 0;
}

/* A byte inside a UTF-8 sequence, not at its start. */
static inline bool byte_is_inner(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

#endif
