//! How much a method remembers of a model, without asking the engine.

use crate::methods::has_inner;
use fngd_onnx::analysis::ParameterRole;
use fngd_onnx::graph::{Dim, ValueId};
use fngd_onnx::{OnnxModel, ParameterRow};
use std::collections::BTreeMap;

/// Largest side of a block of `shampoo`, longest dimension with a basis of `soap`, and share of a batch that `hylo` keeps, rank and sketch of `seng`: defaults.
const BLOCK_SIZE: u64 = 128;
const LARGEST_FACTOR: u64 = 10_000;
const HYLO_RATIO: f64 = 0.1;
const SENG_RANK: u64 = 4;
const SENG_SKETCH_SIZE: u64 = 256;
/// All numbers are float32; counts are int64.
const BYTES: u64 = 4;
const COUNT: u64 = 8;

/// Bytes of a method's state at its default settings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StateBytes {
    /// Whatever the data.
    pub fixed: u64,
    /// For each training sample, once all were seen.
    pub per_training_sample: u64,
    /// What is kept of a batch.
    pub batch: Option<KeptBatch>,
}

/// What a method keeps of the batch of its latest refresh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptBatch {
    /// Which share of the samples, rounded up.
    pub share: f64,
    /// For each of them. `None`: the file does not say how large a layer's input and output are.
    pub per_sample: Option<u64>,
    /// For each pair of them.
    pub per_pair: u64,
}

impl StateBytes {
    /// All of it after `training_samples` were seen, in batches of `batch`.
    pub fn at(&self, training_samples: u64, batch: u64) -> Option<u64> {
        let kept = match self.batch {
            None => 0,
            Some(kept) => {
                // OK because a share of at most 1 of a batch is no larger than it.
                let samples = (kept.share * batch as f64).ceil() as u64;
                samples * kept.per_sample? + samples * samples * kept.per_pair
            }
        };
        Some(self.fixed + self.per_training_sample * training_samples + kept)
    }
}

/// The state of `method` over `rule` (the method itself, if it has no inner rule) for `model`.
pub fn of(model: &OnnxModel, method: &str, rule: &str) -> StateBytes {
    let mut state = if has_inner(method) { of_layers(method, &layers(model)) } else { StateBytes::default() };
    state.fixed += of_rule(model, rule);
    state
}

/// Numbers that a method remembers for each parameter of a 3 × 3 convolution from 64 to 64 channels at 8 × 8 positions, with batches of
/// 128 out of 45,000 samples; an inner rule's are left out. To compare methods by.
pub fn numbers_per_parameter(method: &str) -> f64 {
    const DIMS: [u64; 4] = [64, 64, 3, 3];
    let parameters: u64 = DIMS.iter().product();
    let row = 2 * 64 * 8 * 8;
    let layer = LayerSize {
        groups: 1,
        outputs: 64,
        inputs: 64 * 9,
        kernel: Some(9),
        bias: false,
        positions: Some(64),
        row: Some(row),
        uses: 1,
        keeps_image: true,
    };
    let bytes = match method {
        "sgd" | "muon" => parameters * BYTES,
        "adamw" => 2 * parameters * BYTES,
        "shampoo" => (parameters + 2 * squares_of_blocks(&DIMS, BLOCK_SIZE)) * BYTES,
        "soap" => 2 * (parameters + squares_of_sides(&DIMS, LARGEST_FACTOR)) * BYTES,
        // OK because its row is known.
        _ => of_layers(method, &[layer]).at(45_000, 128).unwrap_or_default(),
    };
    bytes as f64 / (BYTES * parameters) as f64
}

/// A layer as its curvature sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LayerSize {
    groups: u64,
    /// Of one group.
    outputs: u64,
    /// Of one group; a bias counts as one.
    inputs: u64,
    /// Numbers of a kernel of a convolution.
    kernel: Option<u64>,
    /// Whether a bias is among the inputs.
    bias: bool,
    /// Rows of one sample, in all uses.
    positions: Option<u64>,
    /// Numbers of the input and the output of one sample, in all uses.
    row: Option<u64>,
    uses: u64,
    /// Whether it is a 3 × 3 convolution of stride 1 and padding 1 in one group without a bias.
    keeps_image: bool,
}

impl LayerSize {
    /// Numbers of the input moment as `kfac` keeps it: of convolutions that keep the image's size the products it is made of, 39 of
    /// the 81 blocks.
    fn input_moment(&self) -> u64 {
        if self.keeps_image { 39 * (self.inputs / 9).pow(2) } else { self.groups * self.inputs.pow(2) }
    }
}

/// What turns the gradient, without the rule behind it.
fn of_layers(method: &str, layers: &[LayerSize]) -> StateBytes {
    let sum = |of: &dyn Fn(&LayerSize) -> u64| layers.iter().map(of).sum::<u64>();
    let count = layers.len() as u64;
    let features = sum(&|layer| layer.groups * (layer.outputs + layer.inputs));
    let squares = sum(&|layer| layer.groups * (layer.outputs.pow(2) + layer.inputs.pow(2)));
    let groups = sum(&|layer| layer.groups);
    let counts = COUNT * (count + 1);
    let keeping = |share, per_sample, per_pair| Some(KeptBatch { share, per_sample, per_pair });
    match method {
        "fngd" => StateBytes { per_training_sample: BYTES * count, ..Default::default() },
        "kfac" => {
            let moments = sum(&|layer| layer.input_moment() + layer.groups * layer.outputs.pow(2));
            StateBytes { fixed: BYTES * (moments + squares + features) + counts, ..Default::default() }
        }
        "eva" => StateBytes { fixed: BYTES * features + counts, ..Default::default() },
        // Two dampings a group.
        "skfac" => StateBytes {
            fixed: 2 * BYTES * groups + COUNT,
            batch: keeping(1.0, Some(BYTES * features), 2 * BYTES * groups),
            ..Default::default()
        },
        "tengrad" => {
            let rows = layers.iter().map(|layer| layer.row).sum::<Option<u64>>().map(|numbers| BYTES * numbers);
            // How each kept tensor is laid out: three counts a use.
            let fixed = COUNT + 3 * COUNT * sum(&|layer| layer.uses);
            StateBytes { fixed, batch: keeping(1.0, rows, BYTES * count), ..Default::default() }
        }
        "hylo" => StateBytes {
            fixed: counts,
            batch: keeping(HYLO_RATIO, Some(BYTES * features), BYTES * groups),
            ..Default::default()
        },
        "mbf" => StateBytes { fixed: 2 * BYTES * sum(&numbers_of_blocks) + counts, ..Default::default() },
        "seng" => {
            let sketch = |size: u64| size.min(SENG_SKETCH_SIZE);
            let row = |layer: &LayerSize| {
                let positions = layer.positions?;
                let rank =
                    if positions <= SENG_RANK { positions } else { SENG_RANK.min(layer.outputs).min(layer.inputs) };
                Some(BYTES * layer.groups * rank * (layer.outputs + layer.inputs))
            };
            StateBytes {
                fixed: counts + COUNT * sum(&|layer| sketch(layer.outputs) + sketch(layer.inputs)),
                batch: keeping(1.0, layers.iter().map(row).sum::<Option<u64>>(), BYTES * count),
                ..Default::default()
            }
        }
        _ => StateBytes::default(),
    }
}

/// Numbers of the blocks of `mbf`: one for each kernel of a convolution and for each number of its bias, or one for a linear layer.
fn numbers_of_blocks(layer: &LayerSize) -> u64 {
    let Some(kernel) = layer.kernel else { return layer.inputs.pow(2) };
    let bias = u64::from(layer.bias);
    layer.groups * layer.outputs * ((layer.inputs - bias) * kernel + bias)
}

/// The rule that makes the step.
fn of_rule(model: &OnnxModel, rule: &str) -> u64 {
    let muon = muon_matrices(model);
    let rows = model.parameters().iter().filter(|row| row.trainable);
    let numbers = |row: &ParameterRow| match rule {
        "muon" if muon.contains(&row.name.as_str()) => count(row),
        "muon" | "adamw" => 2 * count(row),
        "shampoo" => count(row) + 2 * squares_of_blocks(&row.dims, BLOCK_SIZE),
        "soap" => 2 * count(row) + 2 * squares_of_sides(&row.dims, LARGEST_FACTOR),
        _ => count(row),
    };
    rows.map(|row| numbers(row) * BYTES + COUNT).sum()
}

/// Every preconditioned layer; weights that several nodes use are one.
fn layers(model: &OnnxModel) -> Vec<LayerSize> {
    let analysis = model.analysis();
    let dims: BTreeMap<&str, &[u64]> =
        model.parameters().iter().map(|row| (row.name.as_str(), row.dims.as_slice())).collect();
    let mut layers: BTreeMap<_, LayerSize> = BTreeMap::new();
    for (index, layer) in analysis.layers.iter().filter(|(_, layer)| layer.plain_because.is_none()) {
        let numbers = |value| numbers_per_sample(model, value);
        let row = numbers(layer.activations).zip(numbers(layer.output)).map(|(input, output)| input + output);
        let Some(node) = model.graph().nodes.get(*index) else { continue };
        // A transposed convolution is one whose input and output have changed places.
        let swapped = node.op_type == "ConvTranspose";
        let rows = numbers(if swapped { layer.activations } else { layer.output });
        if let Some(known) = layers.get_mut(&layer.weight) {
            known.row = known.row.zip(row).map(|(known, row)| known + row);
            let outputs = known.groups * known.outputs;
            known.positions = known.positions.zip(rows).map(|(known, rows)| known + rows / outputs.max(1));
            known.uses += 1;
            continue;
        }
        let Some(weight) = analysis.parameters.get(&layer.weight) else { continue };
        let Some([first, rest @ ..]) = dims.get(weight.name.as_str()).copied() else { continue };
        let inputs: u64 = rest.iter().product();
        let (outputs, inputs) = if weight.transposed { (inputs, *first) } else { (*first, inputs) };
        let groups = if rest.len() > 1 { u64::try_from(node.int("group", 1)).unwrap_or(1).max(1) } else { 1 };
        let trained = |bias| analysis.parameters.get(bias).is_some_and(|bias| bias.trainable);
        let joint_bias = !swapped && layer.bias.as_ref().is_some_and(trained);
        let kernel = (rest.len() > 1).then(|| rest[1..].iter().product());
        let positions = rows.map(|rows| rows / outputs.max(1));
        let (outputs, inputs) = (outputs / groups, inputs + u64::from(joint_bias));
        let says = |name, usual: &[i64], wanted: &[i64]| node.ints(name).unwrap_or(usual) == wanted;
        let keeps_image = !swapped
            && rest.len() == 3
            && rest[1..] == [3, 3]
            && groups == 1
            && !joint_bias
            && says("strides", &[1, 1], &[1, 1])
            && says("dilations", &[1, 1], &[1, 1])
            && says("pads", &[0; 4], &[1; 4]);
        let size =
            LayerSize { groups, outputs, inputs, kernel, bias: joint_bias, positions, row, uses: 1, keeps_image };
        layers.insert(layer.weight, size);
    }
    layers.into_values().collect()
}

/// Numbers of one sample of a value, where the file says so: one of its dimensions is the batch's.
fn numbers_per_sample(model: &OnnxModel, value: ValueId) -> Option<u64> {
    let dims = model.graph().values.get(value.0)?.dims.as_ref()?;
    let known = dims.iter().filter_map(|dim| if let Dim::Known(size) = dim { Some(*size) } else { None });
    let (numbers, open) = (known.clone().product::<u64>(), dims.len() - known.count());
    match (open, model.fixed_batch()) {
        (1, None) => Some(numbers),
        (0, Some(batch)) => Some(numbers / batch.max(1)),
        _ => None,
    }
}

/// The names of the parameters that `muon` orthogonalises at its defaults: all weights but the first and the last.
pub fn muon_matrices(model: &OnnxModel) -> Vec<&str> {
    let is_matrix = |row: &&ParameterRow| {
        let is_weight = matches!(
            row.role,
            ParameterRole::LinearWeight | ParameterRole::ConvolutionWeight | ParameterRole::RecurrentWeight
        );
        row.trainable && is_weight && row.dims.len() >= 2 && count(row) > 0
    };
    let names: Vec<&str> = model.parameters().iter().filter(is_matrix).map(|row| row.name.as_str()).collect();
    match &names[..] {
        [_, hidden @ .., _] => hidden.to_vec(),
        _ => Vec::new(),
    }
}

fn count(row: &ParameterRow) -> u64 {
    row.dims.iter().product()
}

/// Numbers in the square matrices of the blocks: neighbouring dimensions are merged up to `largest`, longer ones are split.
fn squares_of_blocks(dims: &[u64], largest: u64) -> u64 {
    let mut merged: Vec<u64> = vec![1];
    for &length in dims {
        match merged.last_mut() {
            Some(last) if *last == 1 || last.saturating_mul(length) <= largest => *last *= length,
            _ if length > 1 => merged.push(length),
            _ => (),
        }
    }
    let pieces: Vec<u64> = merged.iter().map(|length| length.div_ceil(largest)).collect();
    let blocks: u64 = pieces.iter().product();
    let squares = |(&length, &pieces): (&u64, &u64)| {
        let last = length % largest;
        let of_pieces = length / largest * largest * largest + last * last;
        // Each piece is in as many blocks as the other dimensions have pieces.
        of_pieces * blocks.checked_div(pieces).unwrap_or(0)
    };
    merged.iter().zip(&pieces).map(squares).sum()
}

/// Numbers in the square matrices of the dimensions that have a basis.
fn squares_of_sides(dims: &[u64], largest: u64) -> u64 {
    let is_matrix = dims.iter().filter(|&&length| length > 1).count() >= 2 && !dims.contains(&0);
    let sides = dims.iter().filter(|&&length| is_matrix && length > 1 && length <= largest);
    sides.map(|length| length * length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_as_they_are_cut() {
        // [300, 9] in three blocks: two of 128 x 9 and one of 44 x 9.
        assert_eq!(squares_of_blocks(&[300, 9], 128), 2 * (128 * 128 + 81) + 44 * 44 + 81);
        // Merged to [64, 96, 3].
        assert_eq!(squares_of_blocks(&[64, 32, 3, 3], 128), 64 * 64 + 96 * 96 + 9);
        // Two by two blocks.
        assert_eq!(squares_of_blocks(&[130, 129], 128), 2 * (128 * 128 + 4) + 2 * (128 * 128 + 1));
        assert_eq!(squares_of_blocks(&[10], 128), 100);
        assert_eq!(squares_of_blocks(&[0, 4], 128), 0);
    }

    #[test]
    fn a_batch_is_counted_by_sample_and_by_pair() {
        let layer = LayerSize {
            groups: 2,
            outputs: 3,
            inputs: 5,
            kernel: Some(2),
            bias: true,
            positions: Some(9),
            row: Some(7),
            uses: 1,
            keeps_image: false,
        };
        let at = |method: &str, batch: u64| of_layers(method, &[layer]).at(100, batch);
        assert_eq!(at("fngd", 10), Some(4 * 100));
        assert_eq!(at("skfac", 10), Some(8 + 4 * 2 * (2 + 10 * 8 + 2 * 100)));
        // A tenth of 11 is two.
        assert_eq!(at("hylo", 11), Some(16 + 4 * 2 * (2 * 8 + 4)));
        assert_eq!(at("tengrad", 10), Some(8 + 24 + 4 * (10 * 7 + 100)));
        assert_eq!(at("mbf", 10), Some(16 + 2 * 4 * (2 * 3 * (4 * 2 + 1))));
        // The rank is that of the smaller side, 3; with two positions, 2.
        assert_eq!(at("seng", 10), Some(16 + 8 * 8 + 4 * (10 * 2 * 3 * 8 + 100)));
        let short = LayerSize { positions: Some(2), ..layer };
        assert_eq!(of_layers("seng", &[short]).at(1, 10), Some(16 + 8 * 8 + 4 * (10 * 2 * 2 * 8 + 100)));
        let unknown = LayerSize { row: None, ..layer };
        assert_eq!(of_layers("tengrad", &[layer, unknown]).at(1, 10), None);
    }

    #[test]
    fn every_method_is_counted() {
        for method in crate::methods::NAMES {
            let numbers = numbers_per_parameter(method);
            // Only what solves anew at every step remembers nothing.
            assert_eq!(numbers == 0.0, *method == "ngd", "{method}: {numbers}");
        }
        assert_eq!(numbers_per_parameter("adamw"), 2.0);
    }

    #[test]
    fn only_matrices_have_a_basis() {
        assert_eq!(squares_of_sides(&[8, 1, 3], 10_000), 64 + 9);
        assert_eq!(squares_of_sides(&[8, 3], 5), 9);
        assert_eq!(squares_of_sides(&[8, 1], 10_000), 0);
    }
}
