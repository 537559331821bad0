//! The whole way, from a model to text.

use crate::operation::{Kind, Layer, Operation, Parameter, Program};
use crate::scope::{Scopes, join};
use crate::stamp::Stamp;
use crate::tree::Prepared;
use crate::{Error, Result, lift};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::{ElementType, Graph, TensorData, ValueId};
use std::collections::BTreeMap;

/// Up to here a float32 holds every integer.
const LARGEST_INTEGER: u64 = 1 << 24;

/// How to generate.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name of the model's struct; by default its class, if the exporter says it, else the file's name.
    pub name: Option<String>,
}

/// A generated model.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text with its stamp.
    pub source: String,
    /// Name of the model's struct.
    pub name: String,
    /// All variables of the generated model and where the file has their values, by path.
    pub variables: Vec<Variable>,
}

/// A variable of the generated model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its path in the `VarStore`: `layer1.0.conv1.weight`.
    pub path: String,
    /// The initializer that has its value. All variables are floats, also where this one is a mask or has indices.
    pub value: ValueId,
    /// Its dimensions.
    pub dims: Vec<i64>,
    /// It holds the transpose of the stored matrix.
    pub transposed: bool,
    /// Changed by training; else a buffer.
    pub trainable: bool,
}

/// Readable Rust for `model`: a struct with `#[derive(FngdModule)]` per kind of module, whose variables have the names of the file.
///
/// # Errors
/// `is_unsupported()` if something in the model has no form in generated code, naming the nodes.
pub fn generate(model: &OnnxModel, options: &Options) -> Result<Generated> {
    let program = lift(model)?;
    refuse_uneven(model.graph(), &program)?;
    let scopes = Scopes::of(model.graph(), &program);
    let name = options.name.clone().unwrap_or_else(|| default_name(model, &scopes));
    let file = model.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let prepared = crate::tree::prepare(&program, &scopes);
    let variables = variables(model.graph(), &prepared)?;
    let (text, name) = self::text(model.graph(), &program.inputs, &prepared, &name);
    let source = Stamp::new(file, model.sha256()).on(&text);
    Ok(Generated { source, name, variables })
}

/// The text without its stamp, and the name of the root.
pub(crate) fn text(graph: &Graph, inputs: &[ValueId], prepared: &Prepared, name: &str) -> (String, String) {
    let design = crate::unify::design(prepared, name);
    let hint = |input: &ValueId| Some((*input, graph.values.get(input.0)?.name.clone()));
    let hints: BTreeMap<ValueId, String> = inputs.iter().filter_map(hint).collect();
    let kinds = element_types(graph, &prepared.program);
    let name = design.types.last().map(|type_| type_.name.clone()).unwrap_or_default();
    (crate::emit::file(&design, &crate::emit::Facts { hints, kinds }), name)
}

/// Element types of parameters by themselves that are no floats: masks and indices.
fn element_types(graph: &Graph, program: &Program) -> BTreeMap<ValueId, ElementType> {
    let element_type = |operation: &Operation| {
        let Kind::Parameter(parameter) = &operation.kind else { return None };
        let data = graph.initializers.get(&parameter.source)?;
        Some((*operation.results.first()?, data.element_type)).filter(|(_, element_type)| !element_type.is_float())
    };
    program.operations.iter().filter_map(element_type).collect()
}

/// Refuses transposed convolutions whose sizes differ by axis: `tch::nn` has no constructor for them.
fn refuse_uneven(graph: &Graph, program: &Program) -> Result<()> {
    for operation in &program.operations {
        let Kind::Layer { layer: Layer::Convolution { kernel, stride, padding, dilation, output_padding, .. }, .. } =
            &operation.kind
        else {
            continue;
        };
        let Some(output_padding) = output_padding else { continue };
        let is_even = |sizes: &[i64]| sizes.windows(2).all(|pair| pair[0] == pair[1]);
        if ![kernel, stride, padding, dilation, output_padding].into_iter().all(|sizes| is_even(sizes)) {
            let name = described(graph, operation);
            return Err(Error::unsupported(format!(
                "{name}: its kernel {kernel:?}, stride {stride:?} or padding {padding:?} differ by axis, for which `tch::nn` has no \
                 transposed convolution; `fngd-cli train` can train the model all the same"
            )));
        }
    }
    Ok(())
}

/// The node that an operation stands for, as errors name it.
fn described(graph: &Graph, operation: &Operation) -> String {
    let node = operation.nodes.first().and_then(|node| graph.nodes.get(*node));
    node.map_or_else(|| "a layer".to_owned(), |node| node.describe())
}

fn default_name(model: &OnnxModel, scopes: &Scopes) -> String {
    let stem = || model.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let class = scopes.classes.get("").filter(|class| !class.starts_with("torch.nn.modules."));
    class.cloned().unwrap_or_else(stem)
}

/// What the constructors make: one variable per parameter that is left when shared weights belong to one layer.
///
/// # Errors
/// If convolutions share a weight, or two unlike tensors have one path.
fn variables(graph: &Graph, prepared: &Prepared) -> Result<Vec<Variable>> {
    let mut variables: Vec<Variable> = Vec::new();
    let mut paths: BTreeMap<String, usize> = BTreeMap::new();
    let mut kernels: BTreeMap<ValueId, String> = BTreeMap::new();
    for (index, operation) in prepared.program.operations.iter().enumerate() {
        let Some(key) = &prepared.scopes.keys[index] else { continue };
        let path = join(&prepared.scopes.modules[index], key);
        let (parameters, layer): (&[Parameter], Option<&Layer>) = match &operation.kind {
            Kind::Layer { parameters, layer, .. } => (parameters, Some(layer)),
            Kind::Parameter(parameter) => (std::slice::from_ref(parameter), None),
            _ => continue,
        };
        for Parameter { name, source, dims, transposed, trainable } in parameters {
            let path = match layer {
                Some(Layer::Linear { underscored: true, .. }) => format!("{path}_{name}"),
                Some(_) => join(&path, name),
                None => path.clone(),
            };
            if matches!(layer, Some(Layer::Convolution { .. })) && name == "weight" && *trainable {
                let first = kernels.entry(*source).or_insert_with(|| path.clone());
                if *first != path {
                    return Err(Error::unsupported(format!(
                        "{}: its weight is also that of another convolution, `{first}`, for which generated code has no form; \
                         `fngd-cli train` can train the model all the same",
                        described(graph, operation)
                    )));
                }
            }
            let integers = graph.initializers.get(source).and_then(TensorData::integers).unwrap_or_default();
            if integers.iter().any(|number| number.unsigned_abs() > LARGEST_INTEGER) {
                return Err(Error::unsupported(format!(
                    "{}: its constant `{path}` has integers above {LARGEST_INTEGER}, which the floats of a `VarStore` do not hold exactly",
                    described(graph, operation)
                )));
            }
            let variable = Variable {
                path: path.clone(),
                value: *source,
                dims: dims.clone(),
                transposed: *transposed,
                trainable: *trainable,
            };
            match paths.get(&path).map(|known| &variables[*known]) {
                None => {
                    paths.insert(path, variables.len());
                    variables.push(variable);
                }
                Some(known) if is_same(graph, known, &variable) => (),
                Some(_) => {
                    return Err(Error::unsupported(format!(
                        "{}: two different tensors of the file would be the variable `{path}`; rename one of their initializers",
                        described(graph, operation)
                    )));
                }
            }
        }
    }
    Ok(variables)
}

/// Whether both hold the same elements.
fn is_same(graph: &Graph, one: &Variable, other: &Variable) -> bool {
    let data = |variable: &Variable| graph.initializers.get(&variable.value);
    let has_same_form = one.dims == other.dims && one.transposed == other.transposed;
    has_same_form && (one.value == other.value || data(one) == data(other))
}
