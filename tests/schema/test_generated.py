"""The generated modules: current, apart from protobuf's own pool, and the same as etcd's own messages."""

import gzip
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftkv_trio.schema import auth_pb2, kv_pb2, rpc_pb2, v3election_pb2, v3lock_pb2

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "raftkv_trio" / "schema"
#: Of Debian's package golang-etcd-server-dev.
ETCD = Path("/usr/share/gocode/src/go.etcd.io/etcd")
THEIRS = {
    auth_pb2: "auth/authpb/auth.pb.go",
    kv_pb2: "mvcc/mvccpb/kv.pb.go",
    rpc_pb2: "etcdserver/etcdserverpb/rpc.pb.go",
    v3election_pb2: "etcdserver/api/v3election/v3electionpb/v3election.pb.go",
    v3lock_pb2: "etcdserver/api/v3lock/v3lockpb/v3lock.pb.go",
}
#: What is etcd 3.5's. The sources beside which the rest is compared are of 3.4.
OF_3_5 = ("AuthStatus",)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_schema", ROOT / ".ci" / "generate_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_versions(code: str) -> str:
    """Generated code without what differs between the compiler's releases."""
    code = re.sub(r"# Protobuf Python Version: .*", "", code)
    code = re.sub(r"(Domain\.PUBLIC,\n)(    \d+,\n){3}", r"\1", code)
    return code.replace("_Optional[bool]", "bool")


def test_the_committed_modules_are_current(tmp_path: Path) -> None:
    """Whoever changes a `.proto` file generates the modules again."""
    generator().generate(ROOT, tmp_path)
    made = {path.name: path for path in (tmp_path / "raftkv_trio" / "schema").iterdir()}
    committed = {path.name: path for path in SCHEMA.glob("*_pb2.py*")}
    assert made.keys() == committed.keys()
    for name, path in made.items():
        assert without_versions(path.read_text()) == without_versions(committed[name].read_text()), (
            f"{name} is out of date; run `python .ci/generate_schema.py`"
        )


def test_another_copy_of_the_messages_may_be_in_the_process() -> None:
    """A client library for etcd has messages of the same names, in protobuf's own pool."""
    file = FileDescriptorProto()
    kv_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "another/copy/of/kv.proto"
    file.message_type[0].field[0].name = "another"
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    copy = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName("mvccpb.KeyValue"))
    assert copy(another=b"key").SerializeToString() == kv_pb2.KeyValue(key=b"key").SerializeToString()


# ---------------------------------------------------------------- beside etcd's own


def their_file(path: str) -> FileDescriptorProto:
    """The descriptors in a generated module of etcd's."""
    source = ETCD / path
    if not source.exists():
        pytest.skip("needs etcd's sources: Debian's package golang-etcd-server-dev")
    (code,) = re.findall(r"var fileDescriptor\w* = \[\]byte\{\n(.*?)\n\}", source.read_text(), re.DOTALL)
    packed = bytes.fromhex("".join(re.findall(r"0x([0-9a-f]{2})", re.sub(r"//.*", "", code))))
    return FileDescriptorProto.FromString(gzip.decompress(packed))


def facts(file: FileDescriptorProto) -> Iterator[tuple[object, ...]]:
    """All that clients can depend on, one name at a time."""
    yield "syntax", file.syntax, file.package
    for message in file.message_type:
        yield from message_facts(message, file.package)
    for enum in file.enum_type:
        yield from enum_facts(enum, file.package)
    for service in file.service:
        yield from service_facts(service, file.package)


def message_facts(message: DescriptorProto, scope: str) -> Iterator[tuple[object, ...]]:
    name = f"{scope}.{message.name}"
    yield "message", name
    for order, field in enumerate(message.field):
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        kind = FieldDescriptorProto.Type.Name(field.type), FieldDescriptorProto.Label.Name(field.label)
        yield "field", name, order, field.name, field.number, *kind, field.type_name, oneof
    for nested in message.nested_type:
        yield from message_facts(nested, name)
    for enum in message.enum_type:
        yield from enum_facts(enum, name)


def enum_facts(enum: EnumDescriptorProto, scope: str) -> Iterator[tuple[object, ...]]:
    for value in enum.value:
        yield "enum", f"{scope}.{enum.name}", value.name, value.number


def service_facts(service: ServiceDescriptorProto, scope: str) -> Iterator[tuple[object, ...]]:
    for method in service.method:
        path = f"/{scope}.{service.name}/{method.name}"
        streams = method.client_streaming, method.server_streaming
        yield "method", path, method.input_type, method.output_type, *streams


def is_of_3_5(fact: tuple[object, ...]) -> bool:
    return any(name in str(fact[1]) for name in OF_3_5)


@pytest.mark.parametrize("module", THEIRS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_nothing_differs_from_etcd(module: ModuleType) -> None:
    """No message, field, number, type, enum, service or method."""
    ours = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(ours)
    expected, found = set(facts(their_file(THEIRS[module]))), set(facts(ours))
    assert {fact for fact in found - expected if not is_of_3_5(fact)} == set()
    assert expected - found == set()


@pytest.mark.parametrize("module", THEIRS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_message_is_a_class_of_its_module(module: ModuleType) -> None:
    """So that a type checker and an import find it."""
    for name in module.DESCRIPTOR.message_types_by_name:
        assert issubclass(getattr(module, name), Message)
