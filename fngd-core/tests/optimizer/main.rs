//! Optimizers, schedules, saved state and random streams.
//!
//! Golden numbers come from `../make_optimizers.py`; everything else is compared with a slow, obvious version or with itself
//! by another way.

mod battery;
mod clip;
mod golden;
mod groups;
mod muon;
mod problems;
mod random;
mod schedule;
mod settings;
mod shampoo;
mod soap;
mod state;
