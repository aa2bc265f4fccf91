#!/bin/bash
# Makes the database in an empty volume, then is the server.
set -euo pipefail

if [ "$1" = mariadbd ] && [ "$(id -u)" = 0 ]; then
  chown -R mysql:mysql /var/lib/mysql /run/mysqld
  exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
fi
if [ "$1" = mariadbd ]; then set -- "$@" --bind-address=0.0.0.0; fi
if [ "$1" = mariadbd ] && [ ! -d /var/lib/mysql/mysql ]; then
  [ -n "$MARIADB_ROOT_PASSWORD" ] || { echo "MARIADB_ROOT_PASSWORD is not set" >&2; exit 1; }
  mariadb-install-db --auth-root-authentication-method=normal --skip-test-db >/dev/null
  {
    echo "FLUSH PRIVILEGES;"
    echo "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
    [ -z "$MARIADB_DATABASE" ] || echo "CREATE DATABASE \`$MARIADB_DATABASE\`;"
  } | mariadbd --bootstrap
fi
exec "$@"
