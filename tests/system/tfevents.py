"""Reads TensorBoard's event files by their published format and nothing of the project's code: the
CRC-32C is divided bit by bit, and the messages are built here from TensorFlow's field numbers.

TensorBoard itself is packaged neither by Debian nor by npm, so this reader is ours too; a record file
of another program is read by export_test (TfRecord) and by test_export.py.
"""
import pathlib
import struct

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

POLYNOMIAL = 0x11EDC6F41  # Castagnoli


def reversed_bits(value, width):
    return int(f"{value:0{width}b}"[::-1], 2)


def crc32c(data):
    """The remainder of the reflected bytes, preset and inverted with ones."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= reversed_bits(byte, 8) << 24
        for _ in range(8):
            remainder <<= 1
            if remainder >> 32:
                remainder ^= POLYNOMIAL
    return reversed_bits(remainder ^ 0xFFFFFFFF, 32)


def masked(crc):
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    """The whole records at the beginning of `data`; a last one that is cut off is left out, as by
    TensorBoard, which waits for the rest. ValueError: damaged."""
    at = 0
    while len(data) - at >= 12:
        length, length_crc = struct.unpack_from("<QI", data, at)
        if masked(crc32c(data[at:at + 8])) != length_crc:
            raise ValueError(f"the length at byte {at} is damaged")
        end = at + 12 + length
        if len(data) < end + 4:
            return
        body = data[at + 12:end]
        if masked(crc32c(body)) != struct.unpack_from("<I", data, end)[0]:
            raise ValueError(f"the record at byte {at} is damaged")
        yield body
        at = end + 4


def event_class():
    """tensorflow.Event, with Summary.Value's simple_value and SessionLog."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tf.proto", package="tf", syntax="proto3")

    def message(name, *fields):
        proto = file.message_type.add(name=name)
        for label, number, kind, repeated, type_name in fields:
            proto.field.add(name=label, number=number, type=kind, type_name=type_name,
                            label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL)
    message("Value", ("tag", 1, field.TYPE_STRING, False, None),
            ("simple_value", 2, field.TYPE_FLOAT, False, None))
    message("Summary", ("value", 1, field.TYPE_MESSAGE, True, ".tf.Value"))
    message("SessionLog", ("status", 1, field.TYPE_INT32, False, None))
    message("Event", ("wall_time", 1, field.TYPE_DOUBLE, False, None),
            ("step", 2, field.TYPE_INT64, False, None),
            ("file_version", 3, field.TYPE_STRING, False, None),
            ("summary", 5, field.TYPE_MESSAGE, False, ".tf.Summary"),
            ("session_log", 7, field.TYPE_MESSAGE, False, ".tf.SessionLog"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName("tf.Event"))


Event = event_class()
START = 1


def events(path):
    return [Event.FromString(body) for body in records(pathlib.Path(path).read_bytes())]


def event_files(folder):
    """What TensorBoard would read of a run, in its order."""
    return sorted(path for path in pathlib.Path(folder).iterdir() if "tfevents" in path.name)


def scalars(folder):
    """{tag: [(step, value, wall_time)]} of a run as TensorBoard shows it: a START voids what is known
    from its step on."""
    curves = {}
    for path in event_files(folder):
        whole = events(path)
        if not whole:
            continue  # being made
        first, *rest = whole
        assert first.file_version == "brain.Event:2", path
        for event in rest:
            if event.session_log.status == START:
                for tag, points in curves.items():
                    curves[tag] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append(
                    (event.step, value.simple_value, event.wall_time))
    return curves
