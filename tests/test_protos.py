"""The protos follow buf's STANDARD rules but SERVICE_SUFFIX, and everything in them is explained.

Clients in other languages are generated from them, so a name that is wrong once stays wrong. Checked on descriptors
rather than on text; comments are only in the sources, so that one test needs the protoc of the ``dev`` extra.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from inferencegw.v1 import admin_pb2, gateway_pb2, gossip_pb2, manager_pb2, replica_pb2

PROTOS = Path(__file__).resolve().parents[1] / "protos"
FILES: list[FileDescriptor] = [
    module.DESCRIPTOR for module in (admin_pb2, gateway_pb2, gossip_pb2, manager_pb2, replica_pb2)
]

UPPER_CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*")
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file.name).stem)


def upper_snake(name: str) -> str:
    """MemberState -> MEMBER_STATE."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    """The file's messages, the nested ones included."""
    waiting = list(file.message_types_by_name.values())
    while waiting:
        yield (message := waiting.pop())
        waiting += message.nested_types


def enums(file: FileDescriptor) -> Iterator[EnumDescriptor]:
    """The file's enums, the nested ones included."""
    yield from file.enum_types_by_name.values()
    for message in messages(file):
        yield from message.enum_types


def test_every_proto_of_ours_is_among_those_checked() -> None:
    """A proto that is added is checked, or this fails."""
    assert sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("inferencegw/**/*.proto")) == sorted(
        file.name for file in FILES
    )


@each_file
def test_a_file_s_package_is_its_folder_and_ends_in_a_version(file: FileDescriptor) -> None:
    """PACKAGE_DIRECTORY_MATCH, PACKAGE_VERSION_SUFFIX, FILE_LOWER_SNAKE_CASE."""
    folder, name = file.name.rsplit("/", 1)
    assert file.package == folder.replace("/", ".") == "inferencegw.v1"
    assert LOWER_SNAKE.fullmatch(name.removesuffix(".proto"))


@each_file
def test_an_import_is_used_and_not_passed_on(file: FileDescriptor) -> None:
    """IMPORT_USED, IMPORT_NO_PUBLIC: who reads a file knows from it what it depends on."""
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    types = [field.message_type or field.enum_type for message in messages(file) for field in message.fields]
    used = {type_.file.name for type_ in types if type_ is not None}
    assert used - {file.name} == set(proto.dependency)
    assert not proto.public_dependency


@each_file
def test_messages_fields_oneofs_enums_and_rpcs_are_cased_as_usual(file: FileDescriptor) -> None:
    """MESSAGE_PASCAL_CASE, FIELD_LOWER_SNAKE_CASE, ONEOF_LOWER_SNAKE_CASE, ENUM_PASCAL_CASE, RPC_PASCAL_CASE."""
    rpcs = [rpc.name for service in file.services_by_name.values() for rpc in service.methods]
    types = [thing.name for thing in (*messages(file), *enums(file), *file.services_by_name.values())]
    assert [name for name in (*types, *rpcs) if not UPPER_CAMEL.fullmatch(name)] == []
    parts = [field.name for message in messages(file) for field in message.fields]
    # The one of an `optional` field is protoc's own invention and begins with an underscore.
    oneofs = [oneof.name for message in messages(file) for oneof in message.oneofs if not oneof.name.startswith("_")]
    assert [name for name in (*parts, *oneofs) if not LOWER_SNAKE.fullmatch(name)] == []


@each_file
def test_an_enum_s_values_carry_its_name_and_zero_says_nothing(file: FileDescriptor) -> None:
    """ENUM_VALUE_PREFIX, ENUM_ZERO_VALUE_SUFFIX, ENUM_NO_ALLOW_ALIAS: values share one scope in C++, absent reads 0."""
    for enum in enums(file):
        prefix = upper_snake(enum.name)
        assert enum.values[0].name == f"{prefix}_UNSPECIFIED"
        assert enum.values[0].number == 0
        assert [value.name for value in enum.values if not value.name.startswith(f"{prefix}_")] == []
        assert not enum.GetOptions().allow_alias


def test_every_rpc_has_top_level_messages_of_its_own_named_after_it() -> None:
    """RPC_REQUEST_STANDARD_NAME, RPC_RESPONSE_STANDARD_NAME, RPC_REQUEST_RESPONSE_UNIQUE; purerpc cannot do nested."""
    rpcs = [rpc for file in FILES for service in file.services_by_name.values() for rpc in service.methods]
    assert [(rpc.input_type.full_name, rpc.output_type.full_name) for rpc in rpcs] == [
        (f"inferencegw.v1.{rpc.name}Request", f"inferencegw.v1.{rpc.name}Response") for rpc in rpcs
    ]
    assert len({rpc.name for rpc in rpcs}) == len(rpcs)


def test_a_generated_token_is_a_prefix_of_a_delivered_one() -> None:
    """Fields 1 to 5 are equal and the gateway's begin after them: a relayed token is its bytes with more appended."""

    def shape(message: Descriptor) -> list[tuple[object, ...]]:
        return [
            (field.number, field.name, field.type, field.message_type or field.enum_type) for field in message.fields
        ]

    generated = replica_pb2.DESCRIPTOR.message_types_by_name["GenerateResponse"]
    delivered = gateway_pb2.DESCRIPTOR.message_types_by_name["InferResponse"]
    assert shape(delivered)[:5] == shape(generated)
    assert [(field.number, field.name) for field in delivered.fields[5:]] == [(6, "replica_id"), (7, "attempt")]
    proto = DescriptorProto()
    generated.CopyToProto(proto)
    assert [(reserved.start, reserved.end) for reserved in proto.reserved_range] == [(6, 16)]


def declared(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Everything in ``file`` that wants a comment: its path in the descriptor (see SourceCodeInfo) and its name."""
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        yield from (((6, i, 2, j), f"{service.name}.{rpc.name}") for j, rpc in enumerate(service.method))
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        yield from (((5, i, 2, j), value.name) for j, value in enumerate(enum.value))
    waiting: list[tuple[tuple[int, ...], str, DescriptorProto]] = [
        ((4, i), message.name, message) for i, message in enumerate(file.message_type)
    ]
    while waiting:
        path, name, message = waiting.pop()
        yield path, name
        yield from (((*path, 2, j), f"{name}.{field.name}") for j, field in enumerate(message.field))
        for j, enum in enumerate(message.enum_type):
            yield (*path, 4, j), f"{name}.{enum.name}"
            yield from (((*path, 4, j, 2, k), f"{name}.{value.name}") for k, value in enumerate(enum.value))
        waiting += [
            ((*path, 3, j), f"{name}.{nested.name}", nested)
            for j, nested in enumerate(message.nested_type)
            if not nested.options.map_entry  # nobody has written those
        ]


def test_everything_is_explained_in_a_comment(tmp_path: Path) -> None:
    """Whoever generates a client reads the protos and nothing else; the standard services' are in our words too."""
    pytest.importorskip("grpc_tools", reason="comments are only in the sources: needs the protoc of the dev extra")
    output = tmp_path / "protos.binpb"
    sources = sorted(map(str, PROTOS.rglob("*.proto")))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", "--include_source_info"]
    subprocess.run([*command, f"--descriptor_set_out={output}", *sources], check=True)
    files = FileDescriptorSet.FromString(output.read_bytes()).file
    assert len(files) == len(sources)
    for file in files:
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        assert [name for path, name in declared(file) if path not in commented] == []
