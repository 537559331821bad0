//! Every number, a line for each method at each size.

use crate::protocol::{ComplexityReport, Growth};

const HEAD: &str = "layers,axis,size,method,step_ms,added_ms,state_bytes\n";

/// The whole file. SGD adds 0.
pub fn lines(reports: &[ComplexityReport]) -> String {
    let mut file = HEAD.to_owned();
    for report in reports {
        for row in &report.rows {
            file.extend((0..row.sizes.len()).filter_map(|index| line(report, row, index)));
        }
    }
    file
}

fn line(report: &ComplexityReport, row: &Growth, index: usize) -> Option<String> {
    let (layers, axis) = (report.chain.word(), report.axis.word());
    let (size, method) = (row.sizes.get(index)?, row.label());
    let added = row.added_ms.get(index).copied().unwrap_or(0.0);
    let (step, state) = (row.step_ms.get(index)?, row.state_bytes.get(index)?);
    Some(format!("{layers},{axis},{size},{method},{step},{added},{state}\n"))
}

#[cfg(test)]
mod tests {
    use super::super::examples::report;
    use super::*;

    #[test]
    fn a_line_for_each_method_and_size() {
        let expected = "layers,axis,size,method,step_ms,added_ms,state_bytes\n\
            linear,batch,8,sgd,1,0,2048\n\
            linear,batch,16,sgd,2,0,2048\n\
            linear,batch,32,sgd,4,0,2048\n\
            linear,batch,8,fngd 1st epoch,1.5,0.5,2048\n\
            linear,batch,16,fngd 1st epoch,3,1,4096\n\
            linear,batch,32,fngd 1st epoch,6,2.25,5242880\n";
        assert_eq!(lines(&[report()]), expected);
    }
}
