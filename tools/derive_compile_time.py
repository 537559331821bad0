"""What #[derive(FngdModule)] costs the compiler: a struct of 100 fields with it, less the same struct without it, in seconds.

    cargo test -p fngd-core --no-run && python3 tools/derive_compile_time.py [target/debug/deps]
"""
import pathlib
import subprocess
import sys
import tempfile
import time

RUNS = 9


def seconds(folder, dependencies, source):
    """The fastest of several compilations of `source` to a library."""
    file = folder / "model.rs"
    file.write_text(source)
    library = max(dependencies.glob("libfngd_core-*.rlib"), key=lambda path: path.stat().st_mtime)
    command = ["rustc", "--edition=2024", "--crate-type=lib", "--out-dir", folder, "--extern", f"fngd_core={library}",
               "-L", f"dependency={dependencies}", file]

    def once():
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start

    return min(once() for _ in range(RUNS))


def main():
    dependencies = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/debug/deps").resolve()
    fields = "".join(f"    {{mark}}pub conv{index}: fngd_core::nn::Conv2D,\n" for index in range(100))
    marked, plain = (fields.replace("{mark}", mark) for mark in ("#[fngd(precondition)] ", ""))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        derived = seconds(folder, dependencies, f"#[derive(fngd_core::FngdModule)]\npub struct Model {{\n{marked}}}\n")
        without = seconds(folder, dependencies, f"pub struct Model {{\n{plain}}}\n")
    print(f"100 fields: {derived:.3f} s with the derive, {without:.3f} s without, so {derived - without:.3f} s for it")


if __name__ == "__main__":
    main()
