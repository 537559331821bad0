//! From settings to a method of training and a schedule of learning rates.

use super::failure::{Failure, Result};
use fngd_cli::settings::{OptimizerSettings, ScheduleSettings, has_inner};
use fngd_core::optimizer::{
    AdamwConfig, EvaConfig, Form, Groups, HyloConfig, Inner, KfacConfig, KfacInverse, Method, SgdConfig, SkfacConfig,
    TengradConfig,
};
use fngd_core::{
    Ablation, Fisher, FngdConfig, Refresh, Schedule, ScheduleConfig, ScheduleShape, Share, StepScale, WarmUp,
};

/// The method that `settings` name, every knob that is not set at its default.
pub fn method(settings: &OptimizerSettings, seed: u64) -> Result<Method> {
    match settings.name.as_str() {
        "sgd" => Ok(Method::Sgd(sgd(settings))),
        "adamw" => Ok(Method::Adamw(adamw(settings))),
        "fngd" => Ok(Method::Fngd { config: fngd(settings, seed)?, inner: inner(settings)? }),
        "ngd" => {
            let config = FngdConfig { share: Share::None, ..fngd(settings, seed)? };
            Ok(Method::Fngd { config, inner: inner(settings)? })
        }
        "kfac" => Ok(Method::Kfac { config: kfac(settings)?, inner: inner(settings)? }),
        "eva" => Ok(Method::Eva { config: eva(settings)?, inner: inner(settings)? }),
        "skfac" => Ok(Method::Skfac { config: skfac(settings), inner: inner(settings)? }),
        "tengrad" => Ok(Method::Tengrad { config: tengrad(settings), inner: inner(settings)? }),
        "hylo" => Ok(Method::Hylo { config: hylo(settings, seed), inner: inner(settings)? }),
        other => Err(unknown("optimizer", other, "fngd, ngd, kfac, eva, skfac, tengrad, hylo, sgd or adamw")),
    }
}

/// Which parameters weight decay spares.
pub fn groups(settings: &OptimizerSettings) -> Groups {
    if settings.decay_all == Some(true) { Groups::decay_all() } else { Groups::default() }
}

/// The learning rate that the schedule starts from or rises to.
pub fn learning_rate(settings: &OptimizerSettings) -> f64 {
    let adaptive =
        settings.name == "adamw" || (has_inner(&settings.name) && settings.inner.as_deref() == Some("adamw"));
    settings.lr.unwrap_or(if adaptive { 1e-3 } else { 0.1 })
}

/// Learning rate over a run of `total_steps`.
pub fn schedule(
    settings: &ScheduleSettings,
    learning_rate: f64,
    steps_per_epoch: u64,
    total_steps: u64,
) -> Result<Schedule> {
    let factor = settings.factor.unwrap_or(0.1);
    let shape = match settings.kind.as_str() {
        "constant" => ScheduleShape::Constant,
        "cosine" => ScheduleShape::Cosine { final_scale: 0.0 },
        "linear" => ScheduleShape::Linear { final_scale: 0.0 },
        "step" => ScheduleShape::Step { every_steps: settings.every_epochs.unwrap_or(30) * steps_per_epoch, factor },
        "multistep" => {
            let shares = settings.milestones.clone().unwrap_or_else(|| vec![0.5, 0.75]);
            let at_steps = shares.iter().map(|share| (share * total_steps as f64).round() as u64).collect();
            ScheduleShape::MultiStep { at_steps, factor }
        }
        "one-cycle" => ScheduleShape::one_cycle(),
        other => {
            return Err(unknown("schedule", other, "cosine, constant, linear, step, multistep or one-cycle"));
        }
    };
    // One-cycle has a rise of its own.
    let warm_up = match shape {
        ScheduleShape::OneCycle { .. } => WarmUp::Steps(0),
        _ => warm_up(&settings.warmup, steps_per_epoch)?,
    };
    Ok(ScheduleConfig { learning_rate, shape, warm_up, total_steps }.build()?)
}

/// `"5%"` of the run, `"2ep"` epochs, or a number of steps.
fn warm_up(text: &str, steps_per_epoch: u64) -> Result<WarmUp> {
    let parsed = if let Some(percent) = text.strip_suffix('%') {
        percent.trim().parse::<f64>().ok().map(|percent| WarmUp::Fraction(percent / 100.0))
    } else if let Some(epochs) = text.strip_suffix("ep") {
        epochs.trim().parse::<f64>().ok().filter(|epochs| *epochs >= 0.0).map(|epochs| {
            // OK because a float becomes the nearest u64, and an absurd number of epochs is refused by the schedule.
            WarmUp::Steps((epochs * steps_per_epoch as f64).round() as u64)
        })
    } else {
        text.trim().parse().ok().map(WarmUp::Steps)
    };
    parsed.ok_or_else(|| unknown("warm-up", text, "a share (5%), epochs (2ep) or a number of steps"))
}

fn sgd(settings: &OptimizerSettings) -> SgdConfig {
    let default = SgdConfig::default();
    SgdConfig {
        momentum: settings.momentum.unwrap_or(default.momentum),
        nesterov: settings.nesterov.unwrap_or(default.nesterov),
        weight_decay: settings.weight_decay.unwrap_or(default.weight_decay),
    }
}

fn adamw(settings: &OptimizerSettings) -> AdamwConfig {
    let default = AdamwConfig::default();
    let [beta1, beta2] = settings.betas.unwrap_or([default.beta1, default.beta2]);
    AdamwConfig {
        beta1,
        beta2,
        epsilon: settings.epsilon.unwrap_or(default.epsilon),
        weight_decay: settings.weight_decay.unwrap_or(default.weight_decay),
    }
}

fn inner(settings: &OptimizerSettings) -> Result<Inner> {
    match settings.inner.as_deref() {
        None | Some("sgd") => Ok(Inner::Sgd(sgd(settings))),
        Some("adamw") => Ok(Inner::Adamw(adamw(settings))),
        Some(other) => Err(unknown("inner rule", other, "sgd or adamw")),
    }
}

fn fngd(settings: &OptimizerSettings, seed: u64) -> Result<FngdConfig> {
    let mut config = FngdConfig { seed, ..FngdConfig::default() };
    if let Some(damping) = settings.damping {
        config.damping = damping;
    }
    if let Some(share) = settings.share.as_deref() {
        config.share = match share {
            "slot" => Share::Slot,
            "sample" => Share::Sample,
            "none" => Share::None,
            other => return Err(unknown("share", other, "slot, sample or none")),
        };
    }
    config.ablate = match settings.ablate.as_deref() {
        None => None,
        Some("mean") => Some(Ablation::Mean),
        Some("permute") => Some(Ablation::Permute),
        Some("uniform") => Some(Ablation::Uniform),
        Some(other) => return Err(unknown("ablation", other, "mean, permute or uniform")),
    };
    if let Some(refresh) = settings.refresh.as_deref() {
        config.refresh = self::refresh(refresh)?;
    }
    if let Some(scale) = settings.step_scale.as_deref() {
        config.step_scale = match scale {
            "absorb" => StepScale::Absorb,
            "layer" => StepScale::Layer,
            "slot" => StepScale::Slot,
            other => return Err(unknown("step scale", other, "absorb, layer or slot")),
        };
    }
    if let Some(fisher) = settings.fisher.as_deref() {
        config.fisher = match fisher {
            "ef" => Fisher::Empirical,
            "ief" => Fisher::ImprovedEmpirical,
            other => return Err(unknown("fisher", other, "ef or ief")),
        };
    }
    if let Some(mib) = settings.gram_memory_mib {
        config.gram_memory_bytes = mib.saturating_mul(1 << 20);
    }
    Ok(config)
}

fn kfac(settings: &OptimizerSettings) -> Result<KfacConfig> {
    let default = KfacConfig::default();
    Ok(KfacConfig {
        damping: settings.damping.unwrap_or(default.damping),
        decay: settings.decay.unwrap_or(default.decay),
        statistics_every_steps: settings.statistics_every_steps.unwrap_or(default.statistics_every_steps),
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
        inverse: match settings.inverse.as_deref() {
            None => default.inverse,
            Some("eigen") => KfacInverse::Eigen,
            Some("cholesky") => KfacInverse::Cholesky,
            Some(other) => return Err(unknown("inverse", other, "eigen or cholesky")),
        },
        form: form(settings)?,
    })
}

fn eva(settings: &OptimizerSettings) -> Result<EvaConfig> {
    let default = EvaConfig::default();
    Ok(EvaConfig {
        damping: settings.damping.unwrap_or(default.damping),
        decay: settings.decay.unwrap_or(default.decay),
        statistics_every_steps: settings.statistics_every_steps.unwrap_or(default.statistics_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
        form: form(settings)?,
    })
}

fn skfac(settings: &OptimizerSettings) -> SkfacConfig {
    let default = SkfacConfig::default();
    SkfacConfig {
        damping: settings.damping.unwrap_or(default.damping),
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
    }
}

fn tengrad(settings: &OptimizerSettings) -> TengradConfig {
    let default = TengradConfig::default();
    TengradConfig {
        damping: settings.damping.unwrap_or(default.damping),
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
        gram_memory_bytes: settings
            .gram_memory_mib
            .map_or(default.gram_memory_bytes, |mib| mib.saturating_mul(1 << 20)),
    }
}

fn hylo(settings: &OptimizerSettings, seed: u64) -> HyloConfig {
    let default = HyloConfig::default();
    HyloConfig {
        damping: settings.damping.unwrap_or(default.damping),
        ratio: settings.ratio.unwrap_or(default.ratio),
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
        seed,
    }
}

/// 0 does not clip.
fn kl_clip(settings: &OptimizerSettings, default: Option<f64>) -> Option<f64> {
    settings.kl_clip.map_or(default, |kappa| (kappa != 0.0).then_some(kappa))
}

fn form(settings: &OptimizerSettings) -> Result<Form> {
    match settings.form.as_deref() {
        None | Some("textbook") => Ok(Form::Textbook),
        Some("published") => Ok(Form::Published),
        Some(other) => Err(unknown("form", other, "textbook or published")),
    }
}

/// `first-epoch`, `every-N-epochs` or `never`.
fn refresh(text: &str) -> Result<Refresh> {
    let every = || text.strip_prefix("every-")?.strip_suffix("-epochs")?.parse().ok();
    match text {
        "first-epoch" => Ok(Refresh::FirstEpoch),
        "never" => Ok(Refresh::Never),
        _ => every()
            .map(Refresh::EveryEpochs)
            .ok_or_else(|| unknown("refresh", text, "first-epoch, every-N-epochs (every-10-epochs) or never")),
    }
}

fn unknown(what: &str, found: &str, expected: &str) -> Failure {
    Failure::usage(format!("{what} must be {expected}, found `{found}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> OptimizerSettings {
        OptimizerSettings { name: name.to_owned(), ..Default::default() }
    }

    #[test]
    fn what_is_set_is_used_and_the_rest_is_default() {
        let set = OptimizerSettings { momentum: Some(0.5), nesterov: Some(true), ..settings("sgd") };
        let expected = SgdConfig { momentum: 0.5, nesterov: true, ..Default::default() };
        assert_eq!(method(&set, 0).unwrap(), Method::Sgd(expected));
        let set = OptimizerSettings {
            damping: Some(0.25),
            refresh: Some("every-7-epochs".to_owned()),
            fisher: Some("ief".to_owned()),
            inner: Some("adamw".to_owned()),
            ..settings("fngd")
        };
        let config = FngdConfig {
            damping: 0.25,
            refresh: Refresh::EveryEpochs(7),
            fisher: Fisher::ImprovedEmpirical,
            seed: 9,
            ..Default::default()
        };
        let inner = Inner::Adamw(AdamwConfig::default());
        assert_eq!(method(&set, 9).unwrap(), Method::Fngd { config, inner });
        assert_eq!((learning_rate(&set), learning_rate(&settings("fngd"))), (1e-3, 0.1));
    }

    #[test]
    fn methods_over_an_inner_rule() {
        let inner = Inner::Sgd(SgdConfig { momentum: 0.5, ..Default::default() });
        let over = |name: &str| OptimizerSettings { momentum: Some(0.5), ..settings(name) };
        let exact = FngdConfig { share: Share::None, ..Default::default() };
        assert_eq!(method(&over("ngd"), 0).unwrap(), Method::Fngd { config: exact, inner });
        let set = OptimizerSettings {
            damping: Some(0.2),
            refresh_every_steps: Some(7),
            kl_clip: Some(0.0),
            inverse: Some("cholesky".to_owned()),
            form: Some("published".to_owned()),
            ..over("kfac")
        };
        let config = KfacConfig {
            damping: 0.2,
            refresh_every_steps: 7,
            kl_clip: None,
            inverse: KfacInverse::Cholesky,
            form: Form::Published,
            ..Default::default()
        };
        assert_eq!(method(&set, 0).unwrap(), Method::Kfac { config, inner });
        let set = OptimizerSettings { statistics_every_steps: Some(3), decay: Some(0.5), ..over("eva") };
        let config = EvaConfig { statistics_every_steps: 3, decay: 0.5, ..Default::default() };
        assert_eq!(method(&set, 0).unwrap(), Method::Eva { config, inner });
        let (steps, kappa) = (7, Some(0.5));
        let over = |name: &str| OptimizerSettings { refresh_every_steps: Some(steps), kl_clip: kappa, ..over(name) };
        let config = SkfacConfig { refresh_every_steps: steps, kl_clip: kappa, ..Default::default() };
        assert_eq!(method(&over("skfac"), 0).unwrap(), Method::Skfac { config, inner });
        let config = TengradConfig { refresh_every_steps: steps, kl_clip: kappa, ..Default::default() };
        assert_eq!(method(&over("tengrad"), 0).unwrap(), Method::Tengrad { config, inner });
        let config =
            HyloConfig { refresh_every_steps: steps, kl_clip: kappa, ratio: 0.25, seed: 9, ..Default::default() };
        let drawn = OptimizerSettings { ratio: Some(0.25), ..over("hylo") };
        assert_eq!(method(&drawn, 9).unwrap(), Method::Hylo { config, inner });
        let adaptive = OptimizerSettings { inner: Some("adamw".to_owned()), ..settings("eva") };
        assert_eq!((learning_rate(&adaptive), learning_rate(&set)), (1e-3, 0.1));
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let text = |set: OptimizerSettings| method(&set, 0).unwrap_err().to_string();
        assert_eq!(
            text(settings("adam")),
            "optimizer must be fngd, ngd, kfac, eva, skfac, tengrad, hylo, sgd or adamw, found `adam`"
        );
        let refresh = OptimizerSettings { refresh: Some("every--epochs".to_owned()), ..settings("fngd") };
        let expected = "refresh must be first-epoch, every-N-epochs (every-10-epochs) or never, found `every--epochs`";
        assert_eq!(text(refresh), expected);
    }

    #[test]
    fn warm_up_is_a_share_epochs_or_steps() {
        assert_eq!(warm_up("5%", 10).unwrap(), WarmUp::Fraction(0.05));
        assert_eq!(warm_up("1.5ep", 10).unwrap(), WarmUp::Steps(15));
        assert_eq!(warm_up("7", 10).unwrap(), WarmUp::Steps(7));
        assert!(warm_up("soon", 10).is_err());
    }

    #[test]
    fn milestones_are_shares_of_the_run() {
        let set = ScheduleSettings { kind: "multistep".to_owned(), warmup: "0".to_owned(), ..Default::default() };
        let schedule = schedule(&set, 1.0, 10, 100).unwrap();
        assert_eq!(
            [0, 49, 50, 74, 75, 99].map(|step| (schedule.at(step) * 1e6).round() / 1e6),
            [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
        );
    }
}
