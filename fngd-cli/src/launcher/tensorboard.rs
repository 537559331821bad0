//! TensorBoard event files: scalars, without TensorFlow.
//!
//! A file is a row of records: length (u64), its masked CRC-32C, the bytes of an `Event` message, their masked CRC-32C;
//! all little-endian.

use crate::protocol::{EpochEvent, StepEvent};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The event file of one process; a resumed run gets a second file beside the first.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionLog {
    /// 1: a session starts here; whatever earlier files say of later steps is void.
    #[prost(int32, tag = "1")]
    status: i32,
}

impl TensorBoard {
    /// A new event file in `folder`. After a resume, steps from `first_step` on replace those of earlier files.
    pub fn create(folder: &Path, first_step: u64) -> io::Result<TensorBoard> {
        std::fs::create_dir_all(folder)?;
        // No host name, unlike TensorFlow's own files: a run directory can be shared.
        let name = format!("events.out.tfevents.{}.{}", now().as_secs(), std::process::id());
        let mut board = TensorBoard { file: File::options().create(true).append(true).open(folder.join(name))? };
        board.record(0, What::FileVersion("brain.Event:2".to_owned()))?;
        if first_step > 0 {
            board.record(first_step + 1, What::SessionLog(SessionLog { status: 1 }))?;
        }
        Ok(board)
    }

    pub fn step(&mut self, step: &StepEvent) -> io::Result<()> {
        let mut scalars = vec![
            ("train/loss".to_owned(), step.loss),
            ("train/accuracy".to_owned(), step.accuracy),
            ("train/learning_rate".to_owned(), step.learning_rate),
            ("speed/images_per_second".to_owned(), step.images_per_second),
            ("memory/mib".to_owned(), step.memory_mib),
        ];
        scalars.extend(step.gradient_norm.map(|norm| ("train/gradient_norm".to_owned(), norm)));
        scalars.extend(step.phases.iter().map(|(phase, seconds)| (format!("seconds/{phase}"), *seconds)));
        for layer in &step.layers {
            scalars.push((format!("weights_mean/{}", layer.name), layer.mean));
            scalars.push((format!("weights_std/{}", layer.name), layer.std));
            scalars.push((format!("weights_min/{}", layer.name), layer.min));
            scalars.extend(layer.damping.map(|damping| (format!("damping/{}", layer.name), damping)));
        }
        self.scalars(step.step, scalars)
    }

    pub fn epoch(&mut self, epoch: &EpochEvent) -> io::Result<()> {
        let scalars = [
            ("epoch/train_loss", epoch.train_loss),
            ("epoch/train_accuracy", epoch.train_acc),
            ("epoch/validation_loss", epoch.val_loss),
            ("epoch/validation_accuracy", epoch.val_acc),
        ];
        self.scalars(epoch.step, scalars.map(|(tag, value)| (tag.to_owned(), value)))
    }

    fn scalars(&mut self, step: u64, scalars: impl IntoIterator<Item = (String, f64)>) -> io::Result<()> {
        let value = |(tag, value): (String, f64)| Value { tag, simple_value: Some(value as f32) };
        self.record(step, What::Summary(Summary { value: scalars.into_iter().map(value).collect() }))
    }

    fn record(&mut self, step: u64, what: What) -> io::Result<()> {
        let event = Event { wall_time: now().as_secs_f64(), step: step as i64, what: Some(what) };
        self.file.write_all(&frame(&prost::Message::encode_to_vec(&event)))
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked_checksum(message).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that a checksum of data that contain a checksum is a good one.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn messages(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(bytes[8..12], masked_checksum(&bytes[..8]).to_le_bytes());
            let message = &bytes[12..12 + length];
            assert_eq!(bytes[12 + length..16 + length], masked_checksum(message).to_le_bytes());
            events.push(Event::decode(message).unwrap());
            bytes = &bytes[16 + length..];
        }
        events
    }

    /// TensorBoard 2.20 wrote the golden record (tests/golden/make_tensorboard.py).
    #[test]
    fn frames_are_tensorflows() {
        let event = Event { wall_time: 0.0, step: 0, what: Some(What::FileVersion("brain.Event:2".to_owned())) };
        let record = frame(&event.encode_to_vec());

        assert_eq!(record, GOLDEN);
    }

    const GOLDEN: [u8; 31] = *include_bytes!("../../tests/golden/tensorboard_first_record.bin");

    #[test]
    fn a_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(folder.path(), 40).unwrap();
        board.epoch(&crate::launcher::metrics::tests::epoch(5)).unwrap();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let events = messages(&std::fs::read(file).unwrap());
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        assert_eq!((events[1].step, &events[1].what), (41, &Some(What::SessionLog(SessionLog { status: 1 }))));
        let Some(What::Summary(summary)) = &events[2].what else { panic!("{:?}", events[2]) };
        assert_eq!(events[2].step, 50);
        assert_eq!(summary.value[3].tag, "epoch/validation_accuracy");
        assert_eq!(summary.value[3].simple_value, Some(0.81));
    }
}
