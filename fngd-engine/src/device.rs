//! Which device to compute on, and with how many threads.

use super::failure::{Failure, Result};
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use tch::{Cuda, Device};

/// The device that a job runs on, and how that came about.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    pub device: Device,
    /// One clause: "asked for", "no CUDA: libtorch_cuda.so: cannot open ...".
    pub reason: String,
    /// Names of the CUDA devices that libtorch sees.
    pub cuda_devices: Vec<String>,
}

/// Chooses the device for `spec`: `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// `auto` takes the first CUDA device that there is. Asking for one that is not there is an error.
pub fn choose(spec: &str) -> Result<ChosenDevice> {
    let index = match spec {
        "cpu" => {
            let reason = "asked for".to_owned();
            return Ok(ChosenDevice { device: Device::Cpu, reason, cuda_devices: Vec::new() });
        }
        "auto" => None,
        "cuda" => Some(0),
        other => Some(
            other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse::<usize>().ok())
                .ok_or_else(|| Failure::usage(format!("device must be auto, cpu, cuda or cuda:N, found `{other}`")))?,
        ),
    };
    let cuda = load_cuda();
    let cuda_devices = cuda.as_ref().map_or_else(|_| Vec::new(), |&count| names(count));
    match (index, cuda) {
        (None, Ok(_)) => {
            Ok(ChosenDevice { device: Device::Cuda(0), reason: "auto: the first GPU".to_owned(), cuda_devices })
        }
        (None, Err(why)) => {
            Ok(ChosenDevice { device: Device::Cpu, reason: format!("auto: no GPU, {why}"), cuda_devices })
        }
        (Some(index), Ok(count)) if index < count => {
            Ok(ChosenDevice { device: Device::Cuda(index), reason: "asked for".to_owned(), cuda_devices })
        }
        (Some(_), Ok(count)) => {
            let message = format!("device `{spec}` is not there: libtorch sees {count} GPUs, numbered from 0");
            Err(Failure::environment(message).help("--device cuda:0, or --device auto"))
        }
        (Some(_), Err(why)) => {
            let help = "--device cpu runs on the processor; a GPU needs NVIDIA's driver and a libtorch with CUDA";
            Err(Failure::environment(format!("device `{spec}` is not there: {why}")).help(help))
        }
    }
}

/// Sets libtorch's threads: `threads`, or one per core. Returns the number.
pub fn set_threads(threads: Option<usize>) -> Result<usize> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(1024));
    // Far beyond this libtorch does not refuse: it crashes.
    let Some(count) = i32::try_from(threads).ok().filter(|count| (1..=1024).contains(count)) else {
        return Err(Failure::usage(format!("threads must be in 1..=1024, found {threads}")));
    };
    tch::set_num_threads(count);
    Ok(threads)
}

/// Version of the libtorch that is loaded: what its own folder says, else the version that `tch` is made for.
pub fn libtorch_version() -> String {
    let file = libtorch_folder().and_then(|folder| Some(folder.parent()?.join("build-version")));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    text.map_or_else(|| "2.11.0".to_owned(), |text| text.trim().to_owned())
}

/// Waits until everything that was started on `device` is done, so that a clock read afterwards tells the truth.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(i64::try_from(index).unwrap_or(0));
    }
}

/// Loads libtorch's CUDA half, which the engine does not link, and counts the devices; else says why there are none.
///
/// Must come before the first other use of CUDA: libtorch asks only once whether its CUDA half is there.
fn load_cuda() -> std::result::Result<usize, String> {
    let library = libtorch_folder().map(|folder| folder.join("libtorch_cuda.so")).filter(|library| library.exists());
    let library = library.and_then(|library| CString::new(library.into_os_string().into_encoded_bytes()).ok());
    let library = library.unwrap_or_else(|| c"libtorch_cuda.so".to_owned());
    // SAFETY: the name is a C string; loading runs the library's own initialisers, which is what it is for.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: after a failure dlerror gives a C string that stays valid until the next call on this thread.
        let error = unsafe {
            let text = libc::dlerror();
            if text.is_null() { c"not found" } else { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        return Err(error);
    }
    if !Cuda::is_available() {
        return Err("libtorch has CUDA, but no working driver or device".to_owned());
    }
    match usize::try_from(Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("libtorch has CUDA, but sees no device".to_owned()),
    }
}

/// The folder that libtorch was loaded from.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let library =
        library.map(PathBuf::from).find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))?;
    Some(library.parent()?.to_owned())
}

/// Names of the devices, from the driver's own files where those list as many as libtorch sees.
fn names(count: usize) -> Vec<String> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut paths: Vec<_> = folders.map(|folder| folder.path().join("information")).collect();
    paths.sort();
    let models = paths.iter().filter_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned())
    });
    let models: Vec<String> = models.collect();
    let name = |index: usize| match models.get(index) {
        Some(model) if models.len() == count => format!("cuda:{index} {model}"),
        _ => format!("cuda:{index}"),
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_is_refused() {
        let failure = choose("gpu").unwrap_err();
        assert_eq!(failure.to_string(), "device must be auto, cpu, cuda or cuda:N, found `gpu`");
        assert_eq!(failure.cause().code(), 2);
    }

    #[test]
    fn asking_for_a_gpu_that_is_not_there_fails_and_says_what_was_tried() {
        let failure = choose("cuda:4096").unwrap_err();
        assert_eq!(failure.cause().code(), 5);
        assert!(failure.to_string().starts_with("device `cuda:4096` is not there: "), "{failure}");
    }

    #[test]
    fn threads_beyond_what_libtorch_survives_are_refused() {
        assert_eq!(set_threads(Some(1_000_000)).unwrap_err().to_string(), "threads must be in 1..=1024, found 1000000");
        assert_eq!(set_threads(Some(0)).unwrap_err().to_string(), "threads must be in 1..=1024, found 0");
    }
}
