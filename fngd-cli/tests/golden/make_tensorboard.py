"""Makes tensorboard_first_record.bin with TensorBoard's own writer: pip install tensorboard==2.20.0, then run this file."""
import io
import pathlib

from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

buffer = io.BytesIO()
RecordWriter(buffer).write(event_pb2.Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
pathlib.Path(__file__).with_name("tensorboard_first_record.bin").write_bytes(buffer.getvalue())
