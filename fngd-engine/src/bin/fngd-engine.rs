//! The engine: everything that needs libtorch. Started by the launcher, `fngd-cli`.

/// Serves libtorch too: the program exports `malloc`, and shared libraries bind to that.
///
/// A training step frees and takes the same activations again and again. glibc returns large blocks to the kernel, which hands
/// every page out again zeroed, by a page fault; told to keep them, it scatters them over a heap 40 % larger. jemalloc keeps
/// them and fits new ones into them. Measured on ResNet-32, B = 128 (docs/results.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc reads this before anything runs: freed pages are never given back.
// SAFETY: jemalloc declares the symbol as a pointer to a string that ends in a zero byte, which this is.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 36] = b"dirty_decay_ms:-1,muzzy_decay_ms:-1\0";

fn main() -> std::process::ExitCode {
    fngd_engine::main()
}
