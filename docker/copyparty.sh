#!/bin/sh
# Copyparty over the folder /uploads, with docusearch's hooks: in its container. With COPYPARTY_ACCOUNT
# (USER:PASSWORD) that user alone may read and write, else everybody who reaches the port. Arguments
# are further options of Copyparty's.
set -eu
if [ -n "${COPYPARTY_ACCOUNT:-}" ]; then
    user=${COPYPARTY_ACCOUNT%%:*}
    (
        umask 077 # in a file: everybody on the machine may read a program's arguments
        printf '[accounts]\n  %s: %s\n' "$user" "${COPYPARTY_ACCOUNT#*:}" >/state/account.conf
    )
    set -- -c /state/account.conf -v "/uploads::rwmd,$user" "$@"
else
    set -- -v /uploads::rwmd "$@"
fi
for event in xau xad xar xbr xac; do
    set -- "--$event" f,t60,j,,docusearch,hook "$@"
done
exec copyparty -i 0.0.0.0 -p 8000 --no-crt -e2dsa --hist /state/hist \
    --xiu j,i5,,docusearch,hook "$@"
