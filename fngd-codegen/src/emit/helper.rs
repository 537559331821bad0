//! Functions for layers whose configuration would be written out again and again.

use super::number;
use crate::name::Names;
use crate::operation::Layer;
use crate::unify::{Design, Expression, Member, NewArgument, Value};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use std::collections::BTreeMap;

/// The functions, by what they fix.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    functions: BTreeMap<String, Function>,
}

#[derive(Debug)]
struct Function {
    name: String,
    settings: Vec<Setting>,
    layer: Layer,
}

/// A number or word of a layer's configuration, at one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub name: &'static str,
    pub value: Expression,
    /// As it is written there.
    pub text: String,
    /// What it is if nobody says anything; `None` if it has to be said.
    pub default: Option<Value>,
    pub role: Place,
}

/// How a setting is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// An argument of the constructor.
    Argument,
    /// A field of the configuration.
    Config,
}

/// The settings of a layer whose numbers are slots; `None` if they differ by dimension.
pub(super) fn settings(layer: &Layer, slots: &[Expression], arguments: &[NewArgument]) -> Option<Vec<Setting>> {
    let at = |slot: i64| usize::try_from(slot).ok().and_then(|slot| slots.get(slot)).cloned();
    let setting = |name, value: Expression, default, role| {
        let text = number::expression(&value, arguments).to_string();
        Setting { name, value, text, default, role }
    };
    let argument = |name, slot: i64| Some(setting(name, at(slot)?, None, Place::Argument));
    let config =
        |name, slot: i64, default: i64| Some(setting(name, at(slot)?, Some(Value::Integer(default)), Place::Config));
    #[expect(clippy::cast_possible_truncation, reason = "slots are small whole numbers")]
    let float =
        |name, slot: f64, default| Some(setting(name, at(slot as i64)?, Some(Value::Float(default)), Place::Config));
    let flag =
        |name, value| setting(name, Expression::Literal(Value::Bool(value)), Some(Value::Bool(true)), Place::Config);
    let same = |all: &[i64]| {
        let first = at(*all.first()?)?;
        all.iter().all(|slot| at(*slot).as_ref() == Some(&first)).then_some(all[0])
    };
    Some(match layer {
        Layer::Linear { in_features, out_features, bias, .. } => {
            vec![argument("in_features", *in_features)?, argument("out_features", *out_features)?, flag("bias", *bias)]
        }
        Layer::Convolution {
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias,
            output_padding,
        } => {
            let mut settings = vec![
                argument("c_in", *in_channels)?,
                argument("c_out", *out_channels)?,
                argument("kernel", same(kernel)?)?,
                config("stride", same(stride)?, 1)?,
                config("padding", same(padding)?, 0)?,
            ];
            if let Some(output_padding) = output_padding {
                settings.push(config("output_padding", same(output_padding)?, 0)?);
            }
            settings.push(config("dilation", same(dilation)?, 1)?);
            settings.push(config("groups", *groups, 1)?);
            settings.push(flag("bias", *bias));
            settings
        }
        Layer::BatchNorm { features, epsilon, momentum, .. } => {
            vec![argument("channels", *features)?, float("eps", *epsilon, 1e-5)?, float("momentum", *momentum, 0.1)?]
        }
        Layer::LayerNorm { shape, epsilon } => {
            let [width] = shape.as_slice() else { return None };
            vec![argument("width", *width)?, float("eps", *epsilon, 1e-5)?]
        }
        Layer::GroupNorm { groups, features, epsilon } => {
            vec![argument("groups", *groups)?, argument("channels", *features)?, float("eps", *epsilon, 1e-5)?]
        }
        Layer::Embedding { words, width } => vec![argument("words", *words)?, argument("width", *width)?],
    })
}

impl Setting {
    /// Nothing has to be written for it.
    pub(super) fn is_default(&self) -> bool {
        match (&self.value, &self.default) {
            (Expression::Literal(Value::Float(value)), Some(Value::Float(default))) => {
                (value - default).abs() < 1e-6 * default
            }
            (Expression::Literal(value), Some(default)) => value == default,
            _ => false,
        }
    }

    fn literal(&self) -> Option<i64> {
        if let Expression::Literal(Value::Integer(number)) = self.value { Some(number) } else { None }
    }
}

impl Helpers {
    pub(super) fn of(design: &Design) -> Self {
        let mut groups: BTreeMap<String, Vec<(Layer, Vec<Setting>)>> = BTreeMap::new();
        for type_ in &design.types {
            for entry in &type_.members {
                if let Member::Layer(layer) = &entry.member
                    // Its constructor takes the name of the variables, not their path.
                    && !matches!(layer, Layer::Linear { underscored: true, .. })
                    && let Some(settings) = settings(layer, &type_.slots, &type_.arguments)
                    && settings.iter().any(|setting| setting.role == Place::Config && !setting.is_default())
                {
                    groups.entry(kind(layer, &settings)).or_default().push((layer.clone(), settings));
                }
            }
        }
        let mut names = Names::of_values();
        let mut functions = BTreeMap::new();
        for (kind, sites) in groups.into_iter().filter(|(_, sites)| sites.len() > 1) {
            let (layer, first) = sites[0].clone();
            let mut common = first;
            for (index, setting) in common.iter_mut().enumerate() {
                let same = sites.iter().all(|(_, other)| {
                    other[index].text == setting.text && (other[index].literal().is_some() || is_word(&other[index]))
                });
                // Sizes are always said; of the rest, what differs.
                if !same
                    || matches!(setting.name, "c_in" | "c_out" | "channels" | "width" | "in_features" | "out_features")
                {
                    setting.value = Expression::Argument(index);
                }
            }
            let position = |name: &str| sites[0].1.iter().position(|setting| setting.name == name);
            if let (Some(kernel), Some(padding)) = (position("kernel"), position("padding")) {
                let is_half = |settings: &Vec<Setting>| {
                    settings[kernel]
                        .literal()
                        .zip(settings[padding].literal())
                        .is_some_and(|(kernel, padding)| padding == kernel / 2)
                        || settings[padding].text == format!("{} / 2", settings[kernel].text)
                };
                if common[padding].literal().is_none() && sites.iter().all(|(_, settings)| is_half(settings)) {
                    common[padding].value = Expression::Over(kernel, 2);
                }
            }
            if let (Some(groups), Some(c_in)) = (position("groups"), position("c_in"))
                && common[groups].literal().is_none()
                && sites.iter().all(|(_, settings)| settings[groups].text == settings[c_in].text)
            {
                common[groups].value = Expression::Argument(c_in);
            }
            let name = names.take(&wanted_name(&layer, &common));
            functions.insert(kind, Function { name, settings: common, layer });
        }
        Self { functions }
    }

    /// The call of a function instead of a constructor, if there is one for such a layer.
    pub(super) fn call(&self, layer: &Layer, settings: &[Setting], path: &TokenStream) -> Option<TokenStream> {
        let is_underscored = matches!(layer, Layer::Linear { underscored: true, .. });
        if is_underscored || settings.iter().all(|setting| setting.role == Place::Argument || setting.is_default()) {
            return None;
        }
        let function = self.functions.get(&kind(layer, settings))?;
        let name = format_ident!("{}", function.name);
        let arguments =
            function.passed().map(|index| -> TokenStream { settings[index].text.parse().unwrap_or_default() });
        Some(quote!(#name(#path, #(#arguments),*)))
    }

    pub(super) fn functions(&self) -> Vec<TokenStream> {
        self.functions.values().map(Function::tokens).collect()
    }
}

impl Function {
    /// The settings that are arguments, by index.
    fn passed(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.settings.len()).filter(|index| self.settings[*index].value == Expression::Argument(*index))
    }

    fn tokens(&self) -> TokenStream {
        let name = format_ident!("{}", self.name);
        let arguments = self.passed().map(|index| {
            let setting = &self.settings[index];
            let name = format_ident!("{}", setting.name);
            match setting.default {
                Some(Value::Float(_)) => quote!(#name: f64),
                Some(Value::Bool(_)) => quote!(#name: bool),
                _ => quote!(#name: i64),
            }
        });
        let settings: Vec<Setting> =
            self.settings.iter().map(|setting| Setting { text: self.text(setting), ..setting.clone() }).collect();
        let rust_type = super::member::layer_tokens(&self.layer);
        let body = super::construct::layer(&self.layer, &settings, &quote!(vs));
        quote!(fn #name(vs: nn::Path, #(#arguments),*) -> #rust_type { #body })
    }

    fn text(&self, setting: &Setting) -> String {
        match setting.value {
            Expression::Argument(index) => self.settings[index].name.to_owned(),
            Expression::Over(index, factor) => format!("{} / {factor}", self.settings[index].name),
            _ => setting.text.clone(),
        }
    }
}

fn is_word(setting: &Setting) -> bool {
    matches!(setting.value, Expression::Literal(Value::Bool(_) | Value::Float(_)))
}

/// Layers that one function can make: it has no more arguments than can be read.
fn kind(layer: &Layer, settings: &[Setting]) -> String {
    let of =
        |name: &str| settings.iter().find(|setting| setting.name == name).map_or("", |setting| setting.text.as_str());
    match layer {
        Layer::Convolution { kernel, output_padding, bias, .. } => {
            let groups = match of("groups") {
                "1" => "whole",
                groups if groups == of("c_in") => "depthwise",
                _ => "grouped",
            };
            format!("conv {} {} {bias} {groups} {}", kernel.len(), output_padding.is_some(), of("dilation"))
        }
        Layer::BatchNorm { spatial_dims, .. } => format!("batch_norm {spatial_dims}"),
        Layer::Linear { .. } => "linear".to_owned(),
        Layer::LayerNorm { .. } => "layer_norm".to_owned(),
        Layer::GroupNorm { .. } => "group_norm".to_owned(),
        Layer::Embedding { .. } => "embedding".to_owned(),
    }
}

fn wanted_name(layer: &Layer, settings: &[Setting]) -> String {
    let number = |name: &str| settings.iter().find(|setting| setting.name == name).and_then(Setting::literal);
    let channels = settings.iter().position(|setting| setting.name == "c_in").map(Expression::Argument);
    let is_depthwise =
        settings.iter().any(|setting| setting.name == "groups" && Some(&setting.value) == channels.as_ref());
    match layer {
        Layer::Convolution { kernel, output_padding: Some(_), .. } => format!("conv_transpose{}d", kernel.len()),
        Layer::Convolution { kernel, .. } => match (number("kernel"), number("groups"), kernel.len()) {
            (_, None, 1..) if is_depthwise => "depthwise".to_owned(),
            (Some(size), _, 2) => format!("conv{size}x{size}"),
            (_, _, dimensions) => format!("conv{dimensions}d"),
        },
        Layer::BatchNorm { spatial_dims, .. } => format!("batch_norm{spatial_dims}d"),
        Layer::Linear { .. } => "linear".to_owned(),
        Layer::LayerNorm { .. } => "layer_norm".to_owned(),
        Layer::GroupNorm { .. } => "group_norm".to_owned(),
        Layer::Embedding { .. } => "embedding".to_owned(),
    }
}
