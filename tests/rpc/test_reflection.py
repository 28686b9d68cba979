"""grpc.reflection: what is found (pure), and grpcio-reflection's client against a server of ours."""

from typing import Any

import grpc
import pytest
import trio
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from inferencegw.errors import StatusCode
from inferencegw.rpc.health import HealthServicer
from inferencegw.rpc.reflection import Catalogue, Reflection, reflection_services
from inferencegw.rpc.wellknown import message_type
from tests.rpc.support import PATIENCE, Replica, finish, grpcio_channel, running

V1, V1ALPHA = "grpc.reflection.v1", "grpc.reflection.v1alpha"
LISTED = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inferencegw.v1.LLMReplica",
]


def pool_of(*files: str) -> DescriptorPool:
    """A pool with ``files``, descriptors in text format, each after those it imports."""
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(text_format.Parse(file, FileDescriptorProto()).SerializeToString())
    return pool


def diamond() -> DescriptorPool:
    """``top`` imports ``left`` and ``right``, and both import ``base``; ``apart`` is nobody's."""
    return pool_of(
        'name: "base.proto" package: "d" message_type { name: "Base" }',
        'name: "left.proto" package: "d" dependency: "base.proto" message_type { name: "Left" }',
        'name: "right.proto" package: "d" dependency: "base.proto" message_type { name: "Right" }',
        'name: "apart.proto" package: "d" dependency: "base.proto" message_type { name: "Apart" }',
        """
        name: "top.proto" package: "d" dependency: ["left.proto", "right.proto"]
        service { name: "Top" method { name: "Go" input_type: ".d.Left" output_type: ".d.Right" } }
        """,
    )


def ask(reflection: Reflection, package: str = V1, **question: Any) -> Any:
    """The answer to one question."""
    return reflection.answer(message_type(f"{package}.ServerReflectionRequest")(**question))


def files_in(answer: Any) -> list[str]:
    """The names of the files in an answer, in its order."""
    protos = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(proto).name for proto in protos]


@pytest.fixture
def reflection() -> Reflection:
    """Over the diamond."""
    return Reflection(V1, Catalogue.of([diamond().FindServiceByName("d.Top")]))


@pytest.mark.parametrize(
    "question", [{"file_by_filename": "top.proto"}, {"file_containing_symbol": "d.Top"}], ids=["by name", "by symbol"]
)
def test_a_file_comes_first_and_with_everything_it_imports_once(
    reflection: Reflection, question: dict[str, str]
) -> None:
    """A client builds the file from one answer; it takes the first for the one it asked for."""
    first, *imported = files_in(ask(reflection, **question))
    assert (first, sorted(imported)) == ("top.proto", ["base.proto", "left.proto", "right.proto"])


def test_what_no_service_is_made_of_is_not_found(reflection: Reflection) -> None:
    """Not even where it is in the same pool: the default pool has files of whatever else was imported."""
    for question in ({"file_by_filename": "apart.proto"}, {"file_containing_symbol": "d.Apart"}):
        assert ask(reflection, **question).error_response.error_code == StatusCode.NOT_FOUND


def test_every_kind_of_name_is_a_symbol() -> None:
    """Messages, fields, oneofs, enums, their values, services and methods, nested ones too; tools ask for each."""
    pool = pool_of(
        """
        name: "p.proto" package: "p"
        message_type {
            name: "Outer"
            field { name: "id" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL oneof_index: 0 }
            oneof_decl { name: "choice" }
            nested_type {
                name: "Inner"
                field { name: "depth" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
            }
            enum_type { name: "Mood" value { name: "CALM" number: 0 } }
            extension_range { start: 100 end: 200 }
            extension { name: "more" extendee: ".p.Outer" number: 101 type: TYPE_INT32 label: LABEL_OPTIONAL }
        }
        enum_type { name: "Colour" value { name: "RED" number: 0 } }
        extension { name: "extra" extendee: ".p.Outer" number: 100 type: TYPE_INT32 label: LABEL_OPTIONAL }
        service { name: "S" method { name: "Go" input_type: ".p.Outer" output_type: ".p.Outer" } }
        """
    )
    assert set(Catalogue.of([pool.FindServiceByName("p.S")]).symbols) == {
        "p.Outer",
        "p.Outer.id",
        "p.Outer.choice",
        "p.Outer.Mood",
        "p.Outer.CALM",
        "p.Outer.more",
        "p.Outer.Inner",
        "p.Outer.Inner.depth",
        "p.Colour",
        "p.RED",
        "p.extra",
        "p.S",
        "p.S.Go",
    }


def test_names_in_a_file_without_a_package_have_no_leading_dot() -> None:
    """``Go`` rather than ``.Go``."""
    pool = pool_of(
        """
        name: "bare.proto"
        message_type { name: "M" }
        service { name: "S" method { name: "Go" input_type: ".M" output_type: ".M" } }
        """
    )
    assert set(Catalogue.of([pool.FindServiceByName("S")]).symbols) == {"M", "S", "S.Go"}


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "nope.proto"},
        {"file_containing_symbol": "d.Nope"},
        {"file_containing_extension": {"containing_type": "d.Left", "extension_number": 100}},
        {"all_extension_numbers_of_type": "d.Left"},
    ],
    ids=lambda question: next(iter(question)),
)
def test_what_is_not_there_is_an_error_in_the_answer(reflection: Reflection, question: dict[str, Any]) -> None:
    """NOT_FOUND is an answer like any other: it does not end the stream, on which more may be asked."""
    answer = ask(reflection, host="gateway.test", **question)
    assert answer.error_response.error_code == StatusCode.NOT_FOUND
    assert answer.valid_host == "gateway.test"
    assert answer.original_request == message_type(f"{V1}.ServerReflectionRequest")(host="gateway.test", **question)


def test_a_request_that_asks_nothing_is_invalid(reflection: Reflection) -> None:
    """As is one with a question of a later version."""
    assert ask(reflection).error_response.error_code == StatusCode.INVALID_ARGUMENT


# Through the front door.


async def test_grpcio_s_client_calls_a_service_it_never_saw() -> None:
    """From a list of names to a call and its answers, with nothing but what the server said: that is grpcurl's work."""
    services = [Replica().service, HealthServicer().service]
    async with running(*services, *reflection_services(services)) as server:
        with grpcio_channel(server.port) as channel:
            listed, texts = await trio.to_thread.run_sync(discover_and_generate, channel)
    assert (listed, texts) == (LISTED, ["t0 ", "t1 "])


def discover_and_generate(channel: grpc.Channel) -> tuple[list[str], list[str]]:
    """What a client without protos finds, and the texts it gets when it asks for two tokens."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    services = {name: pool.FindServiceByName(name) for name in database.get_services()}
    generate = services["inferencegw.v1.LLMReplica"].methods_by_name["Generate"]
    request_type: Any = GetMessageClass(generate.input_type)
    response_type: Any = GetMessageClass(generate.output_type)
    call = channel.unary_stream(
        "/inferencegw.v1.LLMReplica/Generate",
        request_serializer=request_type.SerializeToString,
        response_deserializer=response_type.FromString,
    )
    answers = call(request_type(prompt="p", max_tokens=2), timeout=PATIENCE)
    return list(services), [answer.text for answer in answers]


@pytest.mark.parametrize("package", [V1, V1ALPHA])
async def test_several_questions_on_one_stream_are_answered_in_order(package: str) -> None:
    """In either version; one that is not found does not end the stream. The two have the same bytes on the wire, so
    grpcio's v1alpha messages serve for v1.
    """
    questions = [
        reflection_pb2.ServerReflectionRequest(file_by_filename="nope.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{package}.ServerReflection"),
        reflection_pb2.ServerReflectionRequest(list_services=""),
    ]
    async with running(*reflection_services([])) as server:
        with grpcio_channel(server.port) as channel:
            call = channel.stream_stream(
                f"/{package}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            end = await finish(call(iter(questions), timeout=PATIENCE))
    missing, file, listed = end.messages
    assert [message.original_request for message in end.messages] == questions
    assert missing.error_response.error_code == StatusCode.NOT_FOUND
    assert files_in(file) == [f"{package.replace('.', '/')}/reflection.proto"]
    assert [service.name for service in listed.list_services_response.service] == [
        f"{V1}.ServerReflection",
        f"{V1ALPHA}.ServerReflection",
    ]
    assert end.code is grpc.StatusCode.OK
