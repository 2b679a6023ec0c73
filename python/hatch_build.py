"""Puts the stubs of ../proto into the wheel, and the two programs where a folder of them is named.

ATTNPRUNE_WHEEL_PROGRAMS: folder of attnprune and attnprune-server; the wheel is then one for this
machine's system, not for any.
"""
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS = pathlib.Path(__file__).resolve().parent.parent / "proto"
PROGRAMS = ("attnprune", "attnprune-server")


def generate(folder):
    """Stubs of every message and service below `folder`, with types."""
    plugin = shutil.which("grpc_python_plugin")
    if plugin is None:
        raise RuntimeError("grpc_python_plugin must be on PATH (Debian: protobuf-compiler-grpc)")
    names = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.glob("attnprune/v1/*.proto"))]
    subprocess.run(["protoc", "-I", PROTOS, f"--python_out={folder}", f"--pyi_out={folder}",
                    f"--grpc_python_out={folder}", f"--plugin=protoc-gen-grpc_python={plugin}",
                    *names], check=True)


class Hook(BuildHookInterface):
    """Stubs and programs as files of the wheel."""

    def initialize(self, version, build_data):
        self.folder = tempfile.TemporaryDirectory()
        generate(self.folder.name)
        for path in pathlib.Path(self.folder.name).rglob("*.py*"):
            build_data["force_include"][str(path)] = str(path.relative_to(self.folder.name))
        programs = os.environ.get("ATTNPRUNE_WHEEL_PROGRAMS")
        if not programs:
            return
        for name in PROGRAMS:
            source = pathlib.Path(programs).resolve() / name
            if not source.is_file():
                raise RuntimeError(f"ATTNPRUNE_WHEEL_PROGRAMS must hold {name}, got {programs}")
            build_data["force_include"][str(source)] = f"attnprune/bin/{name}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version, build_data, artifact_path):
        self.folder.cleanup()
