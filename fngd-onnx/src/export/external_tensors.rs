//! Every tensor that a model keeps in another file: of the main graph, of functions, and of branches that were never read.

use crate::error::quoted;
use crate::external::Place;
use crate::proto_generated::{TensorProto, tensor_proto::DataLocation};
use crate::schema::{Content, Message};
use crate::spans::{MessageSpan, Storage, TensorSpan, slice};
use crate::wire::{self, Value};
use crate::{Error, Result};
use prost::Message as _;

/// A tensor in another file.
pub(super) struct ExternalTensor {
    pub name: String,
    pub span: TensorSpan,
    pub place: Place,
}

/// All of them, in the order of the file, which the census has accepted.
pub(super) fn find(file: &[u8]) -> Result<Vec<ExternalTensor>> {
    let mut found = Vec::new();
    let mut open = vec![(Message::Model, wire::fields(file, 0))];
    while let Some((message, fields)) = open.last_mut() {
        let message = *message;
        let Some(field) = fields.next() else {
            open.pop();
            continue;
        };
        let field = field?;
        match (message.content(field.number), field.value) {
            (Content::Message(Message::Tensor), Value::Bytes(_)) => {
                let span = MessageSpan { field: field.span, contents: field.contents };
                found.extend(external(file, span)?);
            }
            (Content::Message(child), Value::Bytes(contents)) => {
                open.push((child, wire::fields(contents, field.contents.start)));
            }
            _ => (),
        }
    }
    Ok(found)
}

fn external(file: &[u8], message: MessageSpan) -> Result<Option<ExternalTensor>> {
    let span = TensorSpan::of_tensor(file, message)?;
    if !matches!(span.storage, Storage::External { .. }) {
        return Ok(None);
    }
    let bytes = slice(file, &span.message.contents)?;
    let tensor =
        TensorProto::decode(bytes).map_err(|error| Error::malformed(quoted(&error.to_string())).caused_by(error))?;
    if tensor.data_location != Some(DataLocation::External as i32) {
        return Ok(None);
    }
    let place = Place::anywhere(&tensor).map_err(|error| error.at(format!("tensor {}", quoted(tensor.name()))))?;
    Ok(Some(ExternalTensor { name: tensor.name().to_owned(), span, place }))
}
