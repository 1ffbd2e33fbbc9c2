"""Well-known definitions about the software that an image, volume or server has on it."""

from __future__ import annotations

from kilonova.image.metadef.known import DATABASE, IMAGE, SERVER, VOLUME, Known, Property

Objects = tuple[tuple[str, str, tuple[Property, ...]], ...]


def _version(begins: str, name: str) -> Property:
    return (f"{begins}_version", "Version", f"Version of {name}.", "string")


def _port(begins: str, name: str, kind: str = "listen_port") -> Property:
    title = kind.replace("_", " ").title()
    return (f"{begins}_{kind}", title, f"TCP port on which {name} listens.", "integer")


def _databases(*known: tuple[str, str, str, bool]) -> Objects:
    """Of (word, name, name of its port or "", whether it has an administrator)."""
    made = []
    for word, name, port, has_admin in known:
        begins = f"sw_database_{word}"
        admin = (f"{begins}_admin", "Admin User", f"Who administers {name}.", "string")
        ports = (_port(begins, name, port),) if port else ()
        made.append((name, f"The {name} database.", (_version(begins, name), *ports, *((admin,) if has_admin else ()))))
    return tuple(made)


SOFTWARE = (
    Known(
        "OS::Software::DBMS",
        "Database Software",
        "Databases that are installed.",
        ((IMAGE, ""), (VOLUME, ""), (SERVER, ""), (DATABASE, "")),
        (),
        _databases(
            ("mysql", "MySQL", "listen_port", True),
            ("postgresql", "PostgreSQL", "listen_port", True),
            ("sqlserver", "SQL Server", "listen_port", True),
            ("oracle", "Oracle", "listen_port", False),
            ("db2", "DB2", "port", True),
            ("mongodb", "MongoDB", "listen_port", True),
            ("couchbaseserver", "Couchbase Server", "listen_port", True),
            ("redis", "Redis", "listen_port", True),
            ("couchdb", "CouchDB", "listen_port", True),
            ("cassandra", "Apache Cassandra", "listen_port", True),
            ("hbase", "HBase", "", False),
            ("hazlecast", "Hazlecast", "port", False),  # the property's name, as the field spells it
        ),
    ),
    Known(
        "OS::Software::Runtimes",
        "Runtime Environment",
        "Languages whose runtime is installed.",
        ((IMAGE, ""), (VOLUME, ""), (SERVER, "")),
        (),
        tuple(
            (name, f"The {name} runtime.", (_version(f"sw_runtime_{name.lower()}", name),))
            for name in ("PHP", "Python", "Java", "Ruby", "Perl")
        ),
    ),
    Known(
        "OS::Software::WebServers",
        "Web Servers",
        "Web servers that are installed.",
        ((IMAGE, ""), (VOLUME, ""), (SERVER, "")),
        (),
        tuple(
            (
                name,
                f"The web server {name}.",
                (
                    _version(f"sw_webserver_{word}", name),
                    _port(f"sw_webserver_{word}", name, "http_port"),
                    _port(f"sw_webserver_{word}", name, "https_port"),
                ),
            )
            for word, name in (("apache", "Apache HTTP Server"), ("nginx", "Nginx"), ("iis", "IIS"))
        ),
    ),
)
