"""Generates the modules of `raftkv_trio/schema/` from its `.proto` files.

Run in the root of a clone, with grpcio-tools installed: python .ci/generate_schema.py

Use a release whose compiler makes code for protobuf 6.31, such as grpcio-tools 1.80: that code runs with all
releases of 6.x from there on, and with 7.x. Code of a newer compiler needs a newer protobuf.
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

SCHEMA = Path("raftkv_trio", "schema")
#: Generated code asks for protobuf's own pool, in which a name may be taken; see `schema/pool.py`.
THEIR_POOL = "from google.protobuf import descriptor_pool as _descriptor_pool\n"
OUR_POOL = "from raftkv_trio.schema import pool as _descriptor_pool\n"


def generate(root: Path, into: Path) -> None:
    """Generate all modules; raises ValueError if that fails.

    Args:
        root: of the clone.
        into: a directory; the modules go to `raftkv_trio/schema/` in it.
    """
    sources = [str(path.relative_to(root)) for path in sorted((root / SCHEMA).glob("*.proto"))]
    well_known = str(resources.files("grpc_tools") / "_proto")
    arguments = [f"--proto_path={root}", f"--proto_path={well_known}", f"--python_out={into}"]
    if protoc.main(["protoc", *arguments, f"--pyi_out={into}", *sources]):
        raise ValueError("the compiler refuses a .proto file; it has said why")
    for path in (into / SCHEMA).glob("*_pb2.py"):
        code = path.read_text()
        if code.count(THEIR_POOL) != 1:
            raise ValueError(f"{path} does not import the pool as before; see schema/pool.py")
        path.write_text(code.replace(THEIR_POOL, OUR_POOL))


if __name__ == "__main__":
    try:
        generate(Path(), Path())
    except ValueError as error:
        sys.exit(f"cannot generate: {error}")
