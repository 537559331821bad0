//! What the numbered examples share: the digits data set as tensors.
