"""Generate what is committed from the protos: ``python protos/generate.py`` with the ``dev`` extra installed.

The rule: nothing that it writes is edited by hand, and equal protos give equal bytes, so that ``nox -s protos`` can
regenerate and ask git whether anything moved.

- ``inferencegw/v1/``: messages with their typing stubs, and purerpc's classes for the files that declare services.
- ``inferencegw/rpc/wellknown.binpb``: the standard gRPC services as one FileDescriptorSet. Modules would register in
  protobuf's default pool, where they collide with grpcio's own packages; ``rpc/`` loads the set into a pool of its own.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet

PROTOS = pathlib.Path(__file__).resolve().parent
ROOT = PROTOS.parent
PACKAGE = ROOT / "inferencegw" / "v1"
WELL_KNOWN = ROOT / "inferencegw" / "rpc" / "wellknown.binpb"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_grpc.py")


def protoc(*arguments: str) -> None:
    """Run the pinned protoc from the repository's root; raise CalledProcessError if it objects."""
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *arguments], cwd=ROOT, check=True)


def sources(folder: str) -> list[str]:
    """The protos under ``folder``, sorted: protoc's output follows the order of its input."""
    return sorted(str(file) for file in (PROTOS / folder).rglob("*.proto"))


def generate_services(descriptors: FileDescriptorSet, destination: pathlib.Path) -> None:
    """Write purerpc's classes for the files of ours that declare services.

    purerpc's plugin is spoken to as protoc would: protoc itself refuses to, because the plugin does not say that it
    knows ``optional`` fields, which do not concern it.
    """
    ours = [file.name for file in descriptors.file if file.package.startswith("inferencegw.") and file.service]
    request = CodeGeneratorRequest(file_to_generate=ours, proto_file=descriptors.file)
    plugin = pathlib.Path(sys.executable).with_name("protoc-gen-purerpc")
    answer = subprocess.run([plugin], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True).stdout
    for file in CodeGeneratorResponse.FromString(answer).file:
        (destination / file.name).write_text(file.content, encoding="utf-8")


def main() -> None:
    """Replace everything generated; leave it as it was if protoc objects."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        ours = scratch / "ours.binpb"
        protoc(
            f"--python_out={scratch}", f"--pyi_out={scratch}", f"--descriptor_set_out={ours}", *sources("inferencegw")
        )
        generate_services(FileDescriptorSet.FromString(ours.read_bytes()), scratch)
        well_known = scratch / WELL_KNOWN.name
        protoc(f"--descriptor_set_out={well_known}", *sources("grpc"))
        for pattern in GENERATED:
            for stale in PACKAGE.glob(pattern):
                stale.unlink()
        for file in (scratch / "inferencegw" / "v1").iterdir():
            shutil.copyfile(file, PACKAGE / file.name)
        shutil.copyfile(well_known, WELL_KNOWN)


if __name__ == "__main__":
    main()
