//! The same network twice: written by hand with the derive, and imported from an ONNX file. They are one thing to an optimizer.

mod files;
mod from_pytorch;
mod networks;
mod training;

type Failure = Box<dyn std::error::Error>;
