#!/usr/bin/python3
"""Calls any RPC of a gRPC server that has reflection: no stubs, no .proto files, JSON in and out.

    examples/grpc_call.py 127.0.0.1:50051                                           lists services
    examples/grpc_call.py 127.0.0.1:50051 attnprune.v1.PruneService                 lists methods
    examples/grpc_call.py 127.0.0.1:50051 attnprune.v1.PruneService/ListJobs '{"pageSize": 5}'

What grpcurl does, for machines without it; and an example of a client in another language. Needs
Debian's python3-grpcio and python3-protobuf. Streams of answers are printed as they come. As attnprune does,
it speaks TLS where ATTNPRUNE_CA_FILE names the authorities' file, and shows the token in ATTNPRUNE_TOKEN_FILE.
"""
import os
import pathlib
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

REFLECTION = "grpc.reflection.v1alpha"


def reflection_messages():
    """The two messages of the reflection service, as far as they are needed here."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package=REFLECTION)
    text, many, message = 9, 3, 11  # FieldDescriptorProto's numbers

    def add(name, *fields):
        added = file.message_type.add(name=name)
        for field, number, kind, *more in fields:
            added.field.add(name=field, number=number, type=kind,
                            label=many if "many" in more else 1,
                            type_name=next((m for m in more if m != "many"), None))
    add("Request", ("file_containing_symbol", 4, text), ("list_services", 7, text))
    add("Files", ("file_descriptor_proto", 1, 12, "many"))
    add("Service", ("name", 1, text))
    add("Services", ("service", 1, message, "many", f".{REFLECTION}.Service"))
    add("Error", ("error_message", 2, text))
    add("Response", ("files", 4, message, f".{REFLECTION}.Files"),
        ("services", 6, message, f".{REFLECTION}.Services"),
        ("error", 7, message, f".{REFLECTION}.Error"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_class(pool.FindMessageTypeByName(f"{REFLECTION}.{name}"))
            for name in ("Request", "Response")]


def message_class(descriptor):
    return message_factory.MessageFactory(descriptor.file.pool).GetPrototype(descriptor)


class ReflectedServer:
    """A server, with the descriptors that it tells itself."""

    def __init__(self, address, authorities=None, token=None):
        self.channel = (grpc.secure_channel(address, grpc.ssl_channel_credentials(authorities))
                        if authorities else grpc.insecure_channel(address))
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self.pool = descriptor_pool.DescriptorPool()
        self.request, self.response = reflection_messages()

    def ask(self, **question):
        call = self.channel.stream_stream(f"/{REFLECTION}.ServerReflection/ServerReflectionInfo",
                                          self.request.SerializeToString, self.response.FromString)
        (answer,) = call(iter([self.request(**question)]), metadata=self.metadata)
        if answer.HasField("error"):
            raise LookupError(answer.error.error_message)
        return answer

    def services(self):
        return [service.name for service in self.ask(list_services="*").services.service]

    def service(self, name):
        """The descriptor of a service; its files come with those that they import."""
        files = {}
        for data in self.ask(file_containing_symbol=name).files.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            files[file.name] = file

        def add(file):
            for imported in file.dependency:
                if imported in files:
                    add(files.pop(imported))
            self.pool.Add(file)
        while files:
            add(files.popitem()[1])
        return self.pool.FindServiceByName(name)

    def call(self, path, requests):
        """Sends dicts, yields messages."""
        service, method = path.split("/")
        rpc = self.service(service).FindMethodByName(method)
        if rpc is None:
            raise LookupError(f"{service} has no method {method}")
        request, response = message_class(rpc.input_type), message_class(rpc.output_type)
        call = self.channel.stream_stream(f"/{path}", request.SerializeToString,
                                          response.FromString)
        yield from call((json_format.ParseDict(one, request()) for one in requests),
                        metadata=self.metadata)


def file_of(variable):
    """What is in the file that it names, as bytes; None: it names none."""
    return pathlib.Path(os.environ[variable]).read_bytes() if os.environ.get(variable) else None


def main(arguments):
    if len(arguments) not in (1, 2, 3) or arguments[0].startswith("-"):
        sys.exit(__doc__)
    token = file_of("ATTNPRUNE_TOKEN_FILE")
    server = ReflectedServer(arguments[0], file_of("ATTNPRUNE_CA_FILE"),
                             token and token.decode("ascii").strip())
    if len(arguments) == 1:
        print("\n".join(server.services()))
    elif "/" not in arguments[1]:
        for method in server.service(arguments[1]).methods:
            print(f"{method.name}({method.input_type.name}) -> {method.output_type.name}")
    else:
        request = json_format.json.loads(arguments[2] if len(arguments) == 3 else "{}")
        for message in server.call(arguments[1], [request]):
            print(json_format.MessageToJson(message), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LookupError as error:
        sys.exit(f"grpc_call: {error}")
    except (ValueError, json_format.Error) as error:
        sys.exit(f"grpc_call: not a request of this method: {error}")
    except grpc.RpcError as error:
        sys.exit(f"grpc_call: {error.code().name}: {error.details()}")
