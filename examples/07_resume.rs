//! 50 steps, a file, and 50 steps more in another optimizer are 100 steps, bit for bit.

use fngd_core::nn::{self, Module};
use fngd_core::{Fngd, FngdConfig, FngdModule, Result};
use fngd_examples::Digits;
use tch::{Device, Tensor};

#[derive(Debug, FngdModule)]
struct Net(nn::Conv2D, nn::Linear);

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.0).relu().flat_view().apply(&self.1)
    }
}

/// Trains up to `steps`, from `file` if there is one, writes it, and returns the weights of the head.
fn train_until(steps: u64, seed: i64, file: &std::path::Path) -> Result<Tensor> {
    tch::manual_seed(seed);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = Net(
        nn::conv2d(vs.root() / 0, 1, 8, 3, Default::default()),
        nn::linear(vs.root() / 1, 8 * 6 * 6, 10, Default::default()),
    );
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    if file.exists() {
        optimizer.load(file, &vs)?;
    }
    let (digits, _) = Digits::load();
    'run: for epoch in optimizer.epoch().. {
        optimizer.begin_epoch(epoch)?;
        // The order of an epoch depends on its number alone, so what is done can be passed over.
        for (images, labels) in digits.batches(32, epoch).skip(optimizer.slot() as usize) {
            if optimizer.steps() == steps {
                break 'run;
            }
            optimizer.backward_step(&images.apply(&net).cross_entropy_for_logits(&labels))?;
        }
    }
    optimizer.save(file, &vs)?;
    Ok(net.1.ws.detach())
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (whole, parts) = (folder.path().join("whole.safetensors"), folder.path().join("parts.safetensors"));
    let at_100 = train_until(100, 1, &whole)?;
    let at_50 = train_until(50, 1, &parts)?;
    let resumed = train_until(100, 2, &parts)?; // another seed: everything comes from the file
    assert_ne!(at_50, at_100);
    assert_eq!(resumed, at_100);
    assert_eq!(std::fs::read(&whole)?, std::fs::read(&parts)?);
    println!("50 + 50 steps equal 100, and so do the {} bytes of the files", std::fs::metadata(&whole)?.len());
    Ok(())
}
