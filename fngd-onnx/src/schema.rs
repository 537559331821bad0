//! As much of onnx.proto as a walk over the wire needs: which field holds which message.

use crate::proto_generated as proto;
use std::mem::size_of;

/// Kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    Value,
    Type,
    TensorType,
    SequenceType,
    MapType,
    OptionalType,
    SparseType,
    OpaqueType,
    Shape,
    Dimension,
    Entry,
    OperatorSet,
    Function,
    Training,
    Annotation,
    Device,
    NodeDevice,
    Sharding,
    DeviceGroup,
    ShardedDim,
    SimpleShardedDim,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A message.
    Message(Message),
    /// UTF-8 text, copied when decoded.
    Text,
    /// Bytes, shared with the file when decoded.
    Bytes,
    /// Numbers that take up to this many bytes in memory for each byte on the wire.
    Numbers(u64),
    /// Not in the schema; skipped when decoded.
    Unknown,
}

impl Message {
    /// Bytes of one decoded message, without what it points to.
    pub fn size(self) -> usize {
        match self {
            Self::Model => size_of::<proto::ModelProto>(),
            Self::Graph => size_of::<proto::GraphProto>(),
            Self::Node => size_of::<proto::NodeProto>(),
            Self::Attribute => size_of::<proto::AttributeProto>(),
            Self::Tensor => size_of::<proto::TensorProto>(),
            Self::Sparse => size_of::<proto::SparseTensorProto>(),
            Self::Value => size_of::<proto::ValueInfoProto>(),
            Self::Function => size_of::<proto::FunctionProto>(),
            Self::Training => size_of::<proto::TrainingInfoProto>(),
            Self::Type | Self::SequenceType | Self::MapType | Self::OptionalType => size_of::<proto::TypeProto>(),
            Self::NodeDevice => size_of::<proto::NodeDeviceConfigurationProto>(),
            Self::Sharding => size_of::<proto::ShardingSpecProto>(),
            _ => 64,
        }
    }

    /// What field `number` of this message holds.
    pub fn content(self, number: u32) -> Content {
        use Content::{Bytes, Numbers, Text};
        use Message as M;
        let message = match (self, number) {
            (M::Model, 2 | 3 | 4 | 6) => return Text,
            (M::Model, 1 | 5) => return Numbers(8),
            (M::Model, 7) => M::Graph,
            (M::Model, 8) | (M::Function, 9) => M::OperatorSet,
            (M::Model, 14) | (M::Graph, 16) | (M::Node, 9) | (M::Value, 4) | (M::Function, 14) => M::Entry,
            (M::Model, 20) => M::Training,
            (M::Model, 25) => M::Function,
            (M::Model, 26) => M::Device,
            (M::Graph, 1) | (M::Function, 7) => M::Node,
            (M::Graph, 5) => M::Tensor,
            (M::Graph, 15) => M::Sparse,
            (M::Graph, 11..=13) | (M::Function, 12) => M::Value,
            (M::Graph, 14) => M::Annotation,
            (M::Graph, 2 | 10) => return Text,
            (M::Node, 1..=4 | 6..=8) => return Text,
            (M::Node, 5) | (M::Function, 11) => M::Attribute,
            (M::Node, 10) => M::NodeDevice,
            (M::Attribute, 1 | 13 | 21) => return Text,
            (M::Attribute, 4 | 9) => return Bytes,
            (M::Attribute, 2 | 3 | 20) => return Numbers(8),
            (M::Attribute, 7) => return Numbers(1),
            (M::Attribute, 8) => return Numbers(8),
            (M::Attribute, 5 | 10) => M::Tensor,
            (M::Attribute, 6 | 11) => M::Graph,
            (M::Attribute, 22 | 23) => M::Sparse,
            (M::Attribute, 14 | 15) => M::Type,
            (M::Tensor, 1 | 7 | 11) => return Numbers(8),
            (M::Tensor, 5) => return Numbers(4),
            (M::Tensor, 4 | 10) => return Numbers(1),
            (M::Tensor, 2 | 14) => return Numbers(8),
            (M::Tensor, 6 | 9) => return Bytes,
            (M::Tensor, 8 | 12) => return Text,
            (M::Tensor, 3) => M::Segment,
            (M::Tensor, 13 | 16) | (M::Training, 3 | 4) | (M::Annotation, 2) => M::Entry,
            (M::Sparse, 1 | 2) => M::Tensor,
            (M::Sparse, 3) => return Numbers(8),
            (M::Value, 1 | 3) => return Text,
            (M::Value, 2) => M::Type,
            (M::Type, 1) => M::TensorType,
            (M::Type, 4) => M::SequenceType,
            (M::Type, 5) => M::MapType,
            (M::Type, 6) => return Text,
            (M::Type, 7) => M::OpaqueType,
            (M::Type, 8) => M::SparseType,
            (M::Type, 9) => M::OptionalType,
            (M::TensorType | M::SparseType, 1) | (M::MapType, 1) => return Numbers(8),
            (M::TensorType | M::SparseType, 2) => M::Shape,
            (M::SequenceType | M::OptionalType, 1) | (M::MapType, 2) => M::Type,
            (M::Shape, 1) => M::Dimension,
            (M::Dimension, 1) => return Numbers(8),
            (M::Dimension, 2 | 3) | (M::OpaqueType | M::Entry, 1 | 2) => return Text,
            (M::OperatorSet, 1) => return Text,
            (M::OperatorSet, 2) | (M::Segment, 1 | 2) => return Numbers(8),
            (M::Function, 1 | 4..=6 | 8 | 10 | 13) => return Text,
            (M::Training, 1 | 2) => M::Graph,
            (M::Annotation, 1) => return Text,
            (M::Device, 1 | 3) | (M::NodeDevice, 1) | (M::Sharding, 1) => return Text,
            (M::Device, 2) | (M::NodeDevice, 3) | (M::Sharding, 2) | (M::DeviceGroup, 1 | 2) => return Numbers(8),
            (M::NodeDevice, 2) => M::Sharding,
            (M::Sharding, 3) => M::DeviceGroup,
            (M::Sharding, 4) => M::ShardedDim,
            (M::ShardedDim, 1) | (M::SimpleShardedDim, 1 | 3) => return Numbers(8),
            (M::ShardedDim, 2) => M::SimpleShardedDim,
            (M::SimpleShardedDim, 2) => return Text,
            _ => return Content::Unknown,
        };
        Content::Message(message)
    }
}
