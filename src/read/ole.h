/* read, inside: what an OLE compound file (DOC, XLS, PPT; encrypted OOXML) holds. */
#ifndef DOCUSEARCH_READ_OLE_H
#define DOCUSEARCH_READ_OLE_H

#include "read/read.h"

struct ole_kind {
    enum read_format format; /* DOC, XLS, PPT; UNKNOWN: none of them */
    bool package;            /* an encrypted OOXML package */
    bool encrypted;          /* its own encryption (XLS: perhaps by the well-known password) */
};
/* False: no readable compound file. Trusts nothing in it. */
bool ole_identify(struct ole_kind *out, const void *data, size_t size);

#endif
