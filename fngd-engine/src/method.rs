//! From settings to a method of training and a schedule of learning rates.

use super::failure::{Failure, Result};
use fngd_cli::methods;
use fngd_cli::settings::{OptimizerSettings, SHAMPOO_ADAM_LEARNING_RATE, ScheduleSettings};
use fngd_core::optimizer::{
    AdamwConfig, EvaConfig, Form, Graft, Groups, HyloConfig, HyloRows, Inner, KfacConfig, KfacInverse, MbfConfig,
    Method, MuonConfig, MuonPrecision, MuonScale, MuonScope, SengConfig, SgdConfig, ShampooConfig, SkfacConfig,
    SoapConfig, TengradConfig,
};
use fngd_core::{
    Ablation, Fisher, FngdConfig, Refresh, Schedule, ScheduleConfig, ScheduleShape, Share, StepScale, WarmUp,
};

/// The method that `settings` name, every knob that is not set at its default.
pub fn method(settings: &OptimizerSettings, seed: u64) -> Result<Method> {
    match settings.name.as_str() {
        "sgd" => Ok(Method::Sgd(sgd(settings))),
        "adamw" => Ok(Method::Adamw(adamw(settings))),
        "muon" => Ok(Method::Muon(muon(settings)?)),
        "shampoo" => Ok(Method::Shampoo(shampoo(settings)?)),
        "soap" => Ok(Method::Soap(soap(settings))),
        "fngd" => Ok(Method::Fngd { config: fngd(settings, seed)?, inner: inner(settings)? }),
        "ngd" => {
            let config = FngdConfig { share: Share::None, ..fngd(settings, seed)? };
            Ok(Method::Fngd { config, inner: inner(settings)? })
        }
        "kfac" => Ok(Method::Kfac { config: kfac(settings)?, inner: inner(settings)? }),
        "eva" => Ok(Method::Eva { config: eva(settings)?, inner: inner(settings)? }),
        "skfac" => Ok(Method::Skfac { config: skfac(settings), inner: inner(settings)? }),
        "tengrad" => Ok(Method::Tengrad { config: tengrad(settings), inner: inner(settings)? }),
        "hylo" => Ok(Method::Hylo { config: hylo(settings, seed)?, inner: inner(settings)? }),
        "mbf" => Ok(Method::Mbf { config: mbf(settings), inner: inner(settings)? }),
        "seng" => Ok(Method::Seng { config: seng(settings, seed), inner: inner(settings)? }),
        other => Err(unknown("optimizer", other, &methods::NAMES.join(", "))),
    }
}

/// Which parameters weight decay spares.
pub fn groups(settings: &OptimizerSettings) -> Groups {
    if settings.decay_all == Some(true) { Groups::decay_all() } else { Groups::default() }
}

/// The learning rate that the schedule starts from or rises to.
pub fn learning_rate(settings: &OptimizerSettings) -> f64 {
    settings.lr.unwrap_or(match methods::rule(&settings.name, settings.inner.as_deref()) {
        "adamw" => 1e-3,
        "muon" => 0.02,
        "soap" => 3e-3,
        "shampoo" if settings.graft.as_deref() == Some("adam") => SHAMPOO_ADAM_LEARNING_RATE,
        _ => 0.1,
    })
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

fn muon(settings: &OptimizerSettings) -> Result<MuonConfig> {
    let default = MuonConfig::default();
    let [beta1, beta2] = settings.betas.unwrap_or([default.rest.beta1, default.rest.beta2]);
    let weight_decay = settings.weight_decay.unwrap_or(default.weight_decay);
    let epsilon = settings.epsilon.unwrap_or(default.rest.epsilon);
    Ok(MuonConfig {
        momentum: settings.momentum.unwrap_or(default.momentum),
        nesterov: settings.nesterov.unwrap_or(default.nesterov),
        newton_schulz_steps: settings.newton_schulz_steps.unwrap_or(default.newton_schulz_steps),
        weight_decay,
        scale: match settings.muon_scale.as_deref() {
            None | Some("original") => MuonScale::Original,
            Some("match-rms") => MuonScale::MatchRms,
            Some(other) => return Err(unknown("scale of muon", other, "original or match-rms")),
        },
        scope: match settings.muon_scope.as_deref() {
            None | Some("hidden") => MuonScope::Hidden,
            Some("all") => MuonScope::All,
            Some(other) => return Err(unknown("scope of muon", other, "hidden or all")),
        },
        precision: match settings.muon_precision.as_deref() {
            None | Some("full") => MuonPrecision::Full,
            Some("bfloat16") => MuonPrecision::Bfloat16,
            Some(other) => return Err(unknown("precision of muon", other, "full or bfloat16")),
        },
        rest: AdamwConfig { beta1, beta2, epsilon, weight_decay },
        rest_learning_rate_scale: settings.rest_lr_scale.unwrap_or(default.rest_learning_rate_scale),
    })
}

fn shampoo(settings: &OptimizerSettings) -> Result<ShampooConfig> {
    let default = ShampooConfig::default();
    Ok(ShampooConfig {
        momentum: settings.momentum.unwrap_or(default.momentum),
        nesterov: settings.nesterov.unwrap_or(default.nesterov),
        weight_decay: settings.weight_decay.unwrap_or(default.weight_decay),
        block_size: settings.block_size.map_or(default.block_size, i64::from),
        epsilon: default.epsilon,
        statistics_every_steps: settings.statistics_every_steps.unwrap_or(default.statistics_every_steps),
        roots_every_steps: settings.roots_every_steps.unwrap_or(default.roots_every_steps),
        graft: match settings.graft.as_deref() {
            None | Some("sgd") => Graft::Sgd,
            Some("adam") => Graft::adam(),
            Some("none") => Graft::Nothing,
            Some(other) => return Err(unknown("graft", other, "sgd, adam or none")),
        },
    })
}

fn soap(settings: &OptimizerSettings) -> SoapConfig {
    let default = SoapConfig::default();
    let [beta1, beta2] = settings.betas.unwrap_or([default.beta1, default.beta2]);
    SoapConfig {
        beta1,
        beta2,
        epsilon: settings.epsilon.unwrap_or(default.epsilon),
        weight_decay: settings.weight_decay.unwrap_or(default.weight_decay),
        basis_every_steps: settings.basis_every_steps.unwrap_or(default.basis_every_steps),
        largest_factor: settings.largest_factor.map_or(default.largest_factor, i64::from),
        skip_first: default.skip_first,
    }
}

fn inner(settings: &OptimizerSettings) -> Result<Inner> {
    match settings.inner.as_deref() {
        None | Some("sgd") => Ok(Inner::Sgd(sgd(settings))),
        Some("adamw") => Ok(Inner::Adamw(adamw(settings))),
        Some("muon") => Ok(Inner::Muon(muon(settings)?)),
        Some(other) => Err(unknown("inner rule", other, &methods::INNER.join(", "))),
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

fn hylo(settings: &OptimizerSettings, seed: u64) -> Result<HyloConfig> {
    let default = HyloConfig::default();
    Ok(HyloConfig {
        damping: settings.damping.unwrap_or(default.damping),
        ratio: settings.ratio.unwrap_or(default.ratio),
        rows: match settings.rows.as_deref() {
            None | Some("kis") => HyloRows::ImportanceSampling,
            Some("kid") => HyloRows::Interpolative,
            Some(other) => return Err(unknown("rows", other, "kis or kid")),
        },
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
        seed,
    })
}

fn mbf(settings: &OptimizerSettings) -> MbfConfig {
    let default = MbfConfig::default();
    MbfConfig {
        damping: settings.damping.unwrap_or(default.damping),
        decay: settings.decay.unwrap_or(default.decay),
        statistics_every_steps: settings.statistics_every_steps.unwrap_or(default.statistics_every_steps),
        refresh_every_steps: settings.refresh_every_steps.unwrap_or(default.refresh_every_steps),
        kl_clip: kl_clip(settings, default.kl_clip),
    }
}

fn seng(settings: &OptimizerSettings, seed: u64) -> SengConfig {
    let default = SengConfig::default();
    SengConfig {
        damping: settings.damping.unwrap_or(default.damping),
        rank: settings.rank.map_or(default.rank, i64::from),
        sketch_size: settings.sketch_size.map_or(default.sketch_size, i64::from),
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
    fn rules_on_the_gradient_alone() {
        let set = OptimizerSettings {
            muon_scope: Some("all".to_owned()),
            muon_scale: Some("match-rms".to_owned()),
            muon_precision: Some("bfloat16".to_owned()),
            newton_schulz_steps: Some(3),
            rest_lr_scale: Some(0.5),
            betas: Some([0.8, 0.9]),
            weight_decay: Some(0.25),
            ..settings("muon")
        };
        let default = MuonConfig::default();
        let config = MuonConfig {
            scope: MuonScope::All,
            scale: MuonScale::MatchRms,
            precision: MuonPrecision::Bfloat16,
            newton_schulz_steps: 3,
            rest_learning_rate_scale: 0.5,
            weight_decay: 0.25,
            rest: AdamwConfig { beta1: 0.8, beta2: 0.9, weight_decay: 0.25, ..default.rest },
            ..default
        };
        assert_eq!(method(&set, 0).unwrap(), Method::Muon(config));
        let over = OptimizerSettings { inner: Some("muon".to_owned()), ..settings("fngd") };
        let Method::Fngd { inner: Inner::Muon(inner), .. } = method(&over, 0).unwrap() else { panic!("{over:?}") };
        assert_eq!(inner.momentum, 0.95);
        let set = OptimizerSettings {
            graft: Some("adam".to_owned()),
            block_size: Some(64),
            statistics_every_steps: Some(1),
            roots_every_steps: Some(5),
            ..settings("shampoo")
        };
        let config = ShampooConfig {
            graft: Graft::adam(),
            block_size: 64,
            statistics_every_steps: 1,
            roots_every_steps: 5,
            ..ShampooConfig::default()
        };
        assert_eq!(method(&set, 0).unwrap(), Method::Shampoo(config));
        assert_eq!([&over, &set, &settings("shampoo"), &settings("soap")].map(learning_rate), [0.02, 1e-4, 0.1, 3e-3]);
        let set = OptimizerSettings { basis_every_steps: Some(2), largest_factor: Some(64), ..settings("soap") };
        let config = SoapConfig { basis_every_steps: 2, largest_factor: 64, ..SoapConfig::default() };
        assert_eq!(method(&set, 0).unwrap(), Method::Soap(config));
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
        let config = HyloConfig {
            refresh_every_steps: steps,
            kl_clip: kappa,
            ratio: 0.25,
            rows: HyloRows::Interpolative,
            seed: 9,
            ..Default::default()
        };
        let drawn = OptimizerSettings { ratio: Some(0.25), rows: Some("kid".to_owned()), ..over("hylo") };
        assert_eq!(method(&drawn, 9).unwrap(), Method::Hylo { config, inner });
        let set = OptimizerSettings { statistics_every_steps: Some(3), decay: Some(0.5), ..over("mbf") };
        let (statistics_every_steps, refresh_every_steps) = (3, steps);
        let config =
            MbfConfig { statistics_every_steps, refresh_every_steps, kl_clip: kappa, decay: 0.5, ..Default::default() };
        assert_eq!(method(&set, 0).unwrap(), Method::Mbf { config, inner });
        let set = OptimizerSettings { rank: Some(2), sketch_size: Some(32), ..over("seng") };
        let config =
            SengConfig { refresh_every_steps, kl_clip: kappa, rank: 2, sketch_size: 32, seed: 9, ..Default::default() };
        assert_eq!(method(&set, 9).unwrap(), Method::Seng { config, inner });
        let adaptive = OptimizerSettings { inner: Some("adamw".to_owned()), ..settings("eva") };
        assert_eq!((learning_rate(&adaptive), learning_rate(&set)), (1e-3, 0.1));
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let text = |set: OptimizerSettings| method(&set, 0).unwrap_err().to_string();
        assert_eq!(text(settings("adam")), format!("optimizer must be {}, found `adam`", methods::NAMES.join(", ")));
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
