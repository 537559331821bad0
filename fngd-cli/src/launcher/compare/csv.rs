//! The numbers as tables for other programs. An empty field is unknown or never happened.

use super::summary::{Comparison, MethodSummary, RunSummary};

/// compare.csv: a row for each method.
pub fn methods(comparison: &Comparison) -> String {
    let head = "method,optimizer,learning_rate,trials,seeds,reached,median_seconds_to_target,sd_seconds_to_target,median_epochs_to_target,\
        speed_up,speed_up_low,speed_up_high,speed_is_clear,mean_test_acc,sd_test_acc,mean_best_val_acc,sd_best_val_acc,\
        acc_difference,acc_difference_low,acc_difference_high,acc_is_clear,seconds_per_epoch,peak_memory_mib";
    let row = |method: &MethodSummary| {
        let against = method.against.as_ref();
        let (speed, accuracy) = (against.and_then(|a| a.speed_up), against.and_then(|a| a.accuracy));
        let clear = |clear: Option<bool>| clear.map(|clear| clear.to_string()).unwrap_or_default();
        let (test, val) = (method.test_acc, method.best_val_acc);
        vec![
            text(&method.label),
            method.optimizer.clone(),
            method.learning_rate.to_string(),
            comparison.trials.unwrap_or(0).to_string(),
            method.runs.len().to_string(),
            method.reached.to_string(),
            number(method.seconds_to_target),
            number(method.seconds_to_target_spread.and_then(|spread| spread.sd)),
            number(method.epochs_to_target),
            number(speed.map(|interval| interval.estimate)),
            number(speed.map(|interval| interval.low)),
            number(speed.map(|interval| interval.high)),
            clear(against.map(|against| against.speed_is_clear)),
            number(test.map(|spread| spread.mean)),
            number(test.and_then(|spread| spread.sd)),
            number(val.map(|spread| spread.mean)),
            number(val.and_then(|spread| spread.sd)),
            number(accuracy.map(|interval| interval.estimate)),
            number(accuracy.map(|interval| interval.low)),
            number(accuracy.map(|interval| interval.high)),
            clear(against.map(|against| against.accuracy_is_clear)),
            number(method.seconds_per_epoch),
            number(method.memory_mib),
        ]
    };
    document(head, comparison.methods.iter().map(row))
}

/// runs.csv: a row for each run that counts.
pub fn runs(comparison: &Comparison) -> String {
    let head = "method,seed,state,learning_rate,seconds_to_target,epochs_to_target,best_val_acc,best_epoch,test_acc,test_loss,steps,\
        skipped_steps,train_seconds,first_step_seconds,wall_seconds,resumed,peak_memory_mib,cell";
    let row = |(method, run): (&MethodSummary, &RunSummary)| {
        vec![
            text(&method.label),
            run.seed.to_string(),
            run.state.clone(),
            method.learning_rate.to_string(),
            number(run.seconds_to_target),
            whole(run.epochs_to_target),
            number(run.best_val_acc),
            whole(run.best_epoch),
            number(run.test_acc),
            number(run.test_loss),
            run.steps.to_string(),
            run.skipped_steps.to_string(),
            number(run.train_seconds),
            number(run.first_step_seconds),
            number(run.wall_seconds),
            run.resumed.to_string(),
            number(run.memory_mib),
            text(&run.cell),
        ]
    };
    let all = comparison.methods.iter().flat_map(|method| method.runs.iter().map(move |run| (method, run)));
    document(head, all.map(row))
}

/// epochs.csv: a row for each epoch of each run.
pub fn epochs(comparison: &Comparison) -> String {
    let head = "method,seed,epoch,seconds,train_loss,train_acc,val_loss,val_acc";
    let all = comparison.methods.iter().flat_map(|method| method.runs.iter().map(move |run| (method, run)));
    let rows = all.flat_map(|(method, run)| {
        run.epochs.iter().map(move |point| {
            vec![
                text(&method.label),
                run.seed.to_string(),
                point.epoch.to_string(),
                number(Some(point.seconds)),
                number(Some(point.train_loss)),
                number(Some(point.train_acc)),
                number(Some(point.val_loss)),
                number(Some(point.val_acc)),
            ]
        })
    });
    document(head, rows)
}

fn document(head: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    rows.fold(format!("{head}\n"), |document, row| document + &row.join(",") + "\n")
}

/// Six digits; `inf` and nothing for NaN.
fn number(value: Option<f64>) -> String {
    let value = value.filter(|value| !value.is_nan());
    value.map(|value| format!("{}", (value * 1e6).round() / 1e6)).unwrap_or_default()
}

fn whole(value: Option<u64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// In quotes where a comma or a quote needs them.
fn text(value: &str) -> String {
    if value.contains([',', '"', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::comparison;
    use super::*;

    #[test]
    fn rows_have_as_many_fields_as_the_head() {
        let comparison = comparison(true);
        for document in [methods(&comparison), runs(&comparison), epochs(&comparison)] {
            let fields: Vec<usize> = document.lines().map(|line| line.split(',').count()).collect();
            assert!(fields.iter().all(|count| *count == fields[0]), "{document}");
        }
        assert_eq!(runs(&comparison).lines().count(), 1 + 4);
        assert_eq!(epochs(&comparison).lines().count(), 1 + 16);
        assert_eq!(
            runs(&comparison).lines().find(|line| line.contains("diverged")).unwrap(),
            "fngd:inner=muon,8,diverged,0.02,,,0.84,4,,,40,0,,0.5,6,false,400,fngd-inner-muon.seed8"
        );
        assert_eq!(text("a[0.9,0.95]"), "\"a[0.9,0.95]\"");
    }
}
