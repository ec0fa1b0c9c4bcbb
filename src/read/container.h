/* read, inside: what a ZIP container holds, told without unpacking it. */
#ifndef DOCUSEARCH_READ_CONTAINER_H
#define DOCUSEARCH_READ_CONTAINER_H

#include "read/read.h"

/* By [Content_Types].xml (docx, pptx, xlsx) or the mimetype member (odt, odp, ods, epub), whatever
 * the file is called. FORMAT_UNKNOWN: none of these, or no readable ZIP. */
enum read_format ooxml_kind(const void *data, size_t size);
/* What every ZIP container must pass before anything unpacks it: at most 10,000 entries, 256 MiB an
 * entry and 512 MiB in all by their own account (archive_limit), no encrypted entry
 * (password_required), a readable directory (corrupt). An OLE file that holds an encrypted OOXML
 * package is password_required too. */
bool container_check(const void *data, size_t size, struct error *err);
/* Once in a child, before it is jailed: opens what libxml2 and iconv would load from disk later. */
void container_prepare(void);

#endif
