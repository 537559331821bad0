//! study.md, study.html, study.csv and the pictures.

use super::document::{self, Block, Picture};
use super::drift::{Drift, drift};
use super::observed::Observed;
use super::plan::{Part, Plan};
use super::results::{Results, Row, Terms, words};
use super::similarity::mean;
use super::verdict::{Finding, MARGIN, Verdict};
use super::{claims, figures};
use crate::launcher::compare::statistics::all_of_one_sign;
use crate::launcher::compare::tuning;
use crate::launcher::failure::{Failure, Result};
use crate::launcher::plot::{self, Figure};
use crate::launcher::run_directory::RunDirectory;

/// What a study leaves in its folder, but for the plan and the runs.
pub const REPORTS: [&str; 3] = ["study.md", "study.csv", "study.html"];

/// Everything that a report is made from.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub results: &'a Results,
    pub observed: &'a Observed,
    /// What was typed.
    pub command: &'a str,
    /// In words: processor or GPU, versions.
    pub machine: String,
}

impl Report<'_> {
    /// Every claim: of runs under both terms, and of looks at runs.
    pub fn findings(&self) -> Vec<(Option<Terms>, Finding)> {
        let looked = self.observed.findings(self.plan).into_iter().map(|finding| (None, finding));
        let trained =
            claims::findings(self.plan, self.results).into_iter().map(|(terms, finding)| (Some(terms), finding));
        let mut all: Vec<_> = looked.chain(trained).collect();
        all.sort_by_key(|(_, finding)| finding.part);
        all
    }

    pub fn write(&self, folder: &RunDirectory) -> Result<()> {
        let blocks = self.blocks()?;
        for block in &blocks {
            if let Block::Picture(picture) = block {
                folder.write(&format!("{}.svg", picture.name), picture.svg.as_bytes())?;
                folder.write(&format!("{}.png", picture.name), &picture.png)?;
            }
        }
        folder.write("study.csv", self.csv().as_bytes())?;
        folder.write("study.md", document::markdown(&blocks).as_bytes())?;
        folder.write("study.html", document::html(&self.title(), &blocks).as_bytes())
    }

    fn title(&self) -> String {
        let settings = &self.plan.variants[0].settings;
        let model = settings.model.file_stem().unwrap_or_default().to_string_lossy();
        format!("{model} on {}: what the paper says, tested", settings.data.spec)
    }

    fn blocks(&self) -> Result<Vec<Block>> {
        let mut blocks = vec![Block::Title(self.title()), Block::Paragraph(self.setting())];
        if self.plan.trains() && self.plan.tune < 2 {
            blocks.push(Block::Bold("Learning rates are defaults, not tuned.".into()));
        }
        let findings = self.findings();
        blocks.push(Block::Heading("In short".into()));
        blocks.push(Block::List(findings.iter().map(sentence).collect()));
        blocks.push(Block::Paragraph(self.about_intervals()));
        for part in &self.plan.parts {
            blocks.push(Block::Heading(figures::title(*part).to_owned()));
            match part {
                Part::Gram => self.grams(&mut blocks)?,
                Part::Drift => self.drifts(&mut blocks)?,
                part => self.runs(*part, &mut blocks)?,
            }
            let own: Vec<_> = findings.iter().filter(|(_, finding)| finding.part == *part).collect();
            blocks.push(table(&own));
        }
        let failures: Vec<String> =
            [&self.results.same, &self.results.best].into_iter().flatten().flat_map(Row::failures).collect();
        if !failures.is_empty() {
            blocks.push(Block::Heading("Runs that failed".into()));
            blocks.push(Block::List(failures));
        }
        blocks.push(Block::Heading("How this was made".into()));
        blocks.push(Block::List(self.protocol()));
        if !self.command.trim().is_empty() {
            blocks.push(Block::Code(self.command.trim().to_owned()));
        }
        blocks.push(Block::Paragraph(self.machine.clone()));
        Ok(blocks)
    }

    fn setting(&self) -> String {
        let settings = &self.plan.variants[0].settings;
        let Plan { seeds, variants, .. } = self.plan;
        let damping =
            variants.iter().find(|variant| variant.label == "fngd").and_then(|row| row.settings.optimizer.damping);
        let damping = damping.map_or(String::new(), |damping| format!(", γ = {damping}"));
        format!(
            "{} epochs, batch {}, seeds {}{damping}. {} variants.",
            settings.train.epochs,
            settings.train.batch,
            seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
            variants.len()
        )
    }

    fn about_intervals(&self) -> String {
        let seeds = self.plan.seeds.len();
        let chance = 100.0 * all_of_one_sign(seeds);
        format!(
            "In brackets: 95 % bootstrap intervals of the mean over seeds, differences taken seed by seed. A claim is supported if its whole \
             interval agrees with it, not supported if the whole interval contradicts it, and else there is no clear difference. That something \
             costs no accuracy counts as supported if the interval lies above -{MARGIN} points. With {seeds} seeds the interval is about the range \
             of the seeds: chance alone gives differences of one sign in {chance:.0} % of cases, and of {} claims some will be such. More \
             seeds say more.",
            self.findings().len()
        )
    }

    fn grams(&self, blocks: &mut Vec<Block>) -> Result<()> {
        let Some(first) = self.observed.seeds.first() else { return Ok(()) };
        let moments: Vec<u64> = first.moments.keys().copied().collect();
        let last = moments.last().copied();
        for moment in moments.iter().copied().filter(|moment| *moment <= 1 || Some(*moment) == last) {
            picture(blocks, &format!("gram-{moment}"), figures::grams(first, moment))?;
            picture(blocks, &format!("layers-{moment}"), figures::pairs(self.observed, moment))?;
        }
        let rows = moments.iter().map(|moment| {
            let summaries = self.observed.summaries(*moment);
            let cell = |of: fn(&super::layers::Summary) -> f64| words(&summaries.iter().map(of).collect::<Vec<_>>(), 3);
            vec![
                figures::when(*moment),
                cell(|s| s.adjacent),
                cell(|s| s.adjacent_shuffled),
                cell(|s| s.distant),
                cell(|s| s.correlation),
            ]
        });
        blocks.push(Block::Table {
            headings: strings(&[
                "moment",
                "cosine of K, adjacent layers",
                "the same, samples of one shuffled",
                "cosine of K, layers half the depth apart",
                "correlation of w, adjacent layers",
            ]),
            rows: rows.collect(),
        });
        blocks.push(Block::Paragraph(
            "The batch is that of the first step, the same samples at every moment. The shuffled cosine is what any two such matrices have in \
             common: they have no negative eigenvalues and a strong diagonal. Pictures are of the first seed, numbers mean ± standard deviation \
             over seeds."
                .into(),
        ));
        Ok(())
    }

    fn drifts(&self, blocks: &mut Vec<Block>) -> Result<()> {
        let Some(first) = self.observed.seeds.first() else { return Ok(()) };
        let Some(last) = self.observed.last_epoch() else {
            blocks.push(Block::Paragraph("There is no drift within one epoch: choose more with -e.".into()));
            return Ok(());
        };
        picture(blocks, "drift", figures::drifts(self.observed))?;
        let row = |name: String, drifts: &[Drift]| {
            let cell = |of: fn(&Drift) -> f64| words(&drifts.iter().map(of).collect::<Vec<_>>(), 3);
            vec![
                name,
                cell(|d| d.gram),
                cell(|d| d.gram_shuffled),
                cell(|d| d.same_batch),
                cell(|d| d.sample.correlation),
                cell(|d| d.slot.correlation),
                cell(|d| d.slot.cosine),
                cell(|d| d.slot.change),
                cell(|d| d.sample.change),
                cell(|d| d.mean),
                cell(|d| d.ones),
            ]
        };
        let later = first.epochs.keys().copied().filter(|epoch| *epoch > 1);
        let mut rows: Vec<_> =
            later.map(|epoch| row(format!("all layers, epoch {epoch}"), &self.observed.drifts(epoch))).collect();
        let by_layer: Vec<Vec<Drift>> = self.observed.seeds.iter().filter_map(|seed| drift(seed, last)).collect();
        for (layer, name) in first.layers.iter().enumerate() {
            let of_layer: Vec<Drift> = by_layer.iter().map(|seed| seed[layer]).collect();
            rows.push(row(format!("{name}, epoch {last}"), &of_layer));
        }
        blocks.push(Block::Table {
            headings: strings(&[
                "",
                "cosine of K, one batch",
                "samples shuffled",
                "correlation of w, one batch",
                "by sample",
                "by slot",
                "cosine, by slot",
                "error of slot",
                "of sample",
                "of mean",
                "of 1",
            ]),
            rows,
        });
        if let Some(shares) = self.observed.shares(1) {
            let percent = |share: f64| format!("{:.0} %", 100.0 * share);
            blocks.push(Block::Paragraph(format!(
                "All weights of epoch 1 have a standard deviation of {:.3}. {} of their variance is within the batch of a layer and slot, {} between \
                 slots of a layer, {} between layers.",
                shares.deviation,
                percent(shares.batch),
                percent(shares.slots),
                percent(shares.layers)
            )));
        }
        blocks.push(Block::Paragraph(
            "Every batch of these epochs was solved afresh from beside, while the run itself went on with the weights of epoch 1. Errors are \
             relative distances to those fresh weights: of what is stored by slot, by sample, of the layer's mean weight in epoch 1, and of w = 1, \
             which is SGD. Cosines of weights that are all near 1 say little; correlations take the mean off first."
                .into(),
        ));
        let rows = first.layers.iter().enumerate().map(|(layer, name)| {
            let of_seeds = |of: &dyn Fn(&[f64]) -> f64| {
                let values: Vec<f64> = self
                    .observed
                    .seeds
                    .iter()
                    .filter_map(|seed| Some(of(&seed.epochs.get(&1)?.weights[layer])))
                    .collect();
                words(&values, 3)
            };
            let deviation = |row: &[f64]| super::similarity::variance(row).sqrt();
            vec![name.clone(), of_seeds(&|row| mean(row.iter().copied())), of_seeds(&deviation)]
        });
        blocks.push(Block::Table {
            headings: strings(&["layer, epoch 1", "mean of w", "standard deviation of w"]),
            rows: rows.collect(),
        });
        Ok(())
    }

    fn runs(&self, part: Part, blocks: &mut Vec<Block>) -> Result<()> {
        let name =
            serde_json::to_value(part).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        if matches!(part, Part::Sharing | Part::Schedule | Part::Inner) {
            picture(blocks, &format!("{name}-curves"), figures::curves(part, self.results))?;
        }
        picture(blocks, &format!("{name}-errors"), figures::errors(part, self.results))?;
        let best = figures::rows_of(part, &self.results.best);
        let rows = figures::rows_of(part, &self.results.same).into_iter().map(|row| {
            let best = best.iter().find(|best| best.label == row.label);
            vec![
                row.label.clone(),
                row.accuracy_words(),
                best.map_or("-".into(), |best| best.accuracy_words()),
                best.map_or("-".into(), |best| self.choice(best)),
                words(&row.last_losses(), 4),
                words(&row.seconds_per_epoch(), 3),
                words(&row.seconds(), 2),
            ]
        });
        let split = if self.results.has_test { "test" } else { "validation" };
        blocks.push(Block::Table {
            headings: vec![
                "variant".into(),
                format!("{split} accuracy, %, one schedule"),
                "each at its best".into(),
                "with".into(),
                "last validation loss, one schedule".into(),
                "s an epoch behind the first".into(),
                "s in all".into(),
            ],
            rows: rows.collect(),
        });
        Ok(())
    }

    /// What was chosen, and whether a better rate may lie outside of what was tried.
    fn choice(&self, row: &Row) -> String {
        let own = self.plan.variant(&row.label).map_or(f64::NAN, |variant| self.plan.variants[variant].rate());
        let edge = tuning::is_at_edge(row.choice.rate, own, self.plan.tune);
        format!("lr {}{}, {}", row.choice.rate, if edge { " (end of the grid)" } else { "" }, row.choice.schedule)
    }

    fn protocol(&self) -> Vec<String> {
        let Plan { seeds, tune, tuning_seed, schedules, .. } = self.plan;
        let mut lines = vec![
            format!(
                "Every variant has the same model file, data, batches and number of seeds ({}); runs are interleaved over variants.",
                seeds.len()
            ),
            format!("Under one schedule: `{}`, and each one's default learning rate.", schedules[0]),
        ];
        if *tune >= 2 {
            lines.push(format!(
                "Each at its best: {tune} learning rates, a factor √10 apart, under each of {}, for every variant, chosen by validation accuracy \
                 with seed {tuning_seed}, which is none of those above; variants that are about a schedule keep theirs.",
                schedules.join(", ")
            ));
        }
        if self.results.has_test {
            lines.push(
                "Accuracies are of the test split, which nothing was chosen by, with the weights of the epoch that was best in validation.".into(),
            );
        }
        if self.plan.observes() {
            lines.push(
                "Gram matrices and weights are measured by a second network with the run's own weights: the run ends with the same bits as one that \
                 nobody looks at."
                    .into(),
            );
        }
        lines
    }

    /// Every claim with its numbers.
    fn csv(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut lines = "part,terms,claim,quantity,estimate,low,high,seeds,rule,verdict\n".to_owned();
        for (terms, finding) in self.findings() {
            let number = |of: fn(&crate::launcher::compare::statistics::Interval) -> f64| {
                finding.interval.as_ref().map_or(String::new(), |interval| of(interval).to_string())
            };
            let part = serde_json::to_value(finding.part).ok();
            lines += &format!(
                "{},{},{},{},{},{},{},{},{},{}\n",
                part.as_ref().and_then(|part| part.as_str()).unwrap_or_default(),
                terms.map_or("", Terms::words),
                quoted(&finding.claim),
                quoted(&finding.quantity),
                number(|interval| interval.estimate),
                number(|interval| interval.low),
                number(|interval| interval.high),
                finding.seeds,
                quoted(&finding.rule.words()),
                finding.verdict().words().to_lowercase()
            );
        }
        lines
    }
}

/// A claim's sentence, and under which terms it was tested.
pub fn sentence((terms, finding): &(Option<Terms>, Finding)) -> String {
    terms.map_or_else(|| finding.sentence(), |terms| format!("{} ({})", finding.sentence(), terms.words()))
}

fn table(findings: &[&(Option<Terms>, Finding)]) -> Block {
    let rows = findings.iter().map(|(terms, finding)| {
        vec![
            finding.claim.clone(),
            terms.map_or("", Terms::words).to_owned(),
            finding.quantity.clone(),
            finding.numbers(),
            match finding.verdict() {
                Verdict::NoClearDifference => "no clear difference".to_owned(),
                verdict => verdict.words().to_lowercase(),
            },
        ]
    });
    Block::Table { headings: strings(&["claim", "terms", "measured", "mean [95 %]", "verdict"]), rows: rows.collect() }
}

fn picture(blocks: &mut Vec<Block>, name: &str, figure: Option<Figure>) -> Result<()> {
    let Some(figure) = figure else { return Ok(()) };
    let svg = figure.svg();
    let png = plot::png(&svg).map_err(|error| Failure::environment(format!("cannot draw {name}.png: {error}")))?;
    blocks.push(Block::Picture(Picture { name: name.into(), about: figure.title, svg, png }));
    Ok(())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
