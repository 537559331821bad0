//! Types that another macro writes.

#![deny(warnings)]

use fngd_core::{FngdModule, nn};

macro_rules! model {
    ($(#[$attribute:meta])* $name:ident { $($field:ident: $ty:ty = $rename:literal),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(FngdModule)]
        pub struct $name {
            $(#[fngd(rename = $rename)] pub $field: $ty,)*
        }
    };
}

model!(#[derive(Debug)] Model { fc: nn::Linear = "fc1", blocks: Vec<nn::Conv2D> = "features" });

macro_rules! choice {
    ($name:ident<$parameter:ident> { $($variant:ident($ty:ty)),* }) => {
        #[derive(FngdModule)]
        pub enum $name<$parameter> {
            $($variant($ty),)*
        }
    };
}

choice!(Choice<T> { One(T), Many(Vec<T>), Fixed(nn::Linear) });
