//! Weights with something taken out of them.

use crate::Result;
use crate::config::Ablation;
use crate::random::Stream;
use tch::Tensor;

/// `coefficients` of one layer and slot after the ablation. `key`: seed, layer and slot, on which a shuffle depends.
pub(super) fn ablated(coefficients: Tensor, ablation: Option<Ablation>, key: (u64, usize, u64)) -> Result<Tensor> {
    match ablation {
        None => Ok(coefficients),
        Some(Ablation::Uniform) => Ok(coefficients.f_ones_like()?),
        Some(Ablation::Mean) => {
            Ok(coefficients.f_mean(coefficients.kind())?.f_expand_as(&coefficients)?.f_contiguous()?)
        }
        Some(Ablation::Permute) => {
            let (seed, layer, slot) = key;
            let mut stream = Stream::new(seed, "permute coefficients", &[layer as u64, slot]);
            let order = Tensor::from_slice(&stream.permutation(coefficients.size()[0] as usize));
            Ok(coefficients.f_index_select(0, &order.f_to_device(coefficients.device())?)?)
        }
    }
}
