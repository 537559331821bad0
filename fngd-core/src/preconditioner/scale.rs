//! What becomes of the factor 1/λ in the natural gradient: dropped, frozen per layer, or kept per slot.

use crate::Result;
use crate::config::StepScale;
use crate::state::TensorMap;
use tch::{Device, Kind, Tensor};

/// Running geometric means of λ by layer, and the factors they give.
#[derive(Debug)]
pub(super) struct LayerScale {
    mode: StepScale,
    /// Σ log λ over the solves of the first epoch that succeeded, and their number, both `[L]`, float64, on the device.
    log_damping: Tensor,
    solves: Tensor,
    /// Geometric mean 1 over the layers that have a λ, 1 for others; frozen when the first epoch is over.
    factors: Option<Tensor>,
}

impl LayerScale {
    pub fn new(mode: StepScale, layers: usize, device: Device) -> Self {
        let zeros = || Tensor::zeros([layers as i64], (Kind::Double, device));
        Self { mode, log_damping: zeros(), solves: zeros(), factors: None }
    }

    /// `coefficients` times the step scale of a layer in `epoch`. `damping`: λ of this solve; a recalled weight has none and, for
    /// [`StepScale::Slot`], had its factor put in when it was stored.
    pub fn apply(
        &mut self,
        index: usize,
        epoch: u64,
        coefficients: &Tensor,
        damping: Option<&Tensor>,
    ) -> Result<Tensor> {
        match (self.mode, damping) {
            (StepScale::Slot, Some(damping)) => {
                // A layer that could not be solved has no λ; it trains with factor 1, as with w = 1.
                let usable = usable(damping)?;
                Ok(coefficients.f_div(&damping.f_where_self(&usable, &damping.f_ones_like()?)?)?)
            }
            (StepScale::Layer, _) if epoch > 0 => {
                let factor = self.frozen()?.f_get(index as i64)?.f_to_kind(coefficients.kind())?;
                Ok(coefficients.f_mul(&factor)?)
            }
            _ => Ok(coefficients.shallow_clone()),
        }
    }

    /// What the bank should keep of a solve: the weights, with the factor 1/λ only if it belongs to the slot.
    pub fn stored(&self, coefficients: &Tensor, scaled: &Tensor) -> Tensor {
        if self.mode == StepScale::Slot { scaled.shallow_clone() } else { coefficients.shallow_clone() }
    }

    /// Notes the λ of every layer of one solve in the first epoch. Layers without one, dead or not solved, are passed over.
    pub fn observe(&mut self, epoch: u64, dampings: &[Option<&Tensor>]) -> Result<()> {
        if self.mode != StepScale::Layer || epoch != 0 || self.factors.is_some() {
            return Ok(());
        }
        let zero = Tensor::f_zeros([], (Kind::Double, self.log_damping.device()))?;
        let rows = dampings.iter().map(|damping| damping.unwrap_or(&zero).f_to_kind(Kind::Double));
        let rows: Vec<Tensor> = rows.collect::<std::result::Result<_, _>>()?;
        let rows = Tensor::f_stack(&rows, 0)?;
        let usable = usable(&rows)?;
        let logs = rows.f_log()?.f_where_self(&usable, &zero)?;
        self.log_damping = self.log_damping.f_add_(&logs)?;
        self.solves = self.solves.f_add_(&usable.f_to_kind(Kind::Double)?)?;
        Ok(())
    }

    fn frozen(&mut self) -> Result<&Tensor> {
        if self.factors.is_none() {
            let mean = self.log_damping.f_div(&self.solves.f_clamp_min(1.0)?)?;
            let has_mean = self.solves.f_gt(0.0)?.f_to_kind(Kind::Double)?;
            let layers = has_mean.f_sum(Kind::Double)?.f_clamp_min(1.0)?;
            let centre = mean.f_mul(&has_mean)?.f_sum(Kind::Double)?.f_div(&layers)?;
            self.factors = Some(mean.f_sub(&centre)?.f_mul(&has_mean)?.f_neg()?.f_exp()?);
        }
        // OK because it was just set.
        Ok(self.factors.as_ref().unwrap())
    }

    pub fn state(&self) -> Vec<(String, Tensor)> {
        if self.mode != StepScale::Layer {
            return Vec::new();
        }
        let mut state = vec![
            ("scale.log_damping".to_owned(), self.log_damping.copy()),
            ("scale.solves".to_owned(), self.solves.copy()),
        ];
        state.extend(self.factors.as_ref().map(|factors| ("scale.factors".to_owned(), factors.copy())));
        state
    }

    pub fn load_state(&mut self, state: &mut TensorMap) -> Result<()> {
        if self.mode != StepScale::Layer {
            return Ok(());
        }
        let size = self.log_damping.size();
        self.log_damping.f_copy_(&state.take("scale.log_damping", Kind::Double, &size)?)?;
        self.solves.f_copy_(&state.take("scale.solves", Kind::Double, &size)?)?;
        self.factors = None;
        if state.contains("scale.factors") {
            let factors = state.take("scale.factors", Kind::Double, &size)?;
            self.factors = Some(factors.f_to_device(self.log_damping.device())?);
        }
        Ok(())
    }
}

fn usable(damping: &Tensor) -> Result<Tensor> {
    Ok(damping.f_isfinite()?.f_logical_and(&damping.f_gt(0.0)?)?)
}
