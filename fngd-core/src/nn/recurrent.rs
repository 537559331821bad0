use crate::module_impls::visit_parameter;
use crate::{FngdModule, Path, Role, Visitor};
use std::borrow::Borrow;
use tch::Tensor;
use tch::nn::{self, GRUState, LSTMState, RNN, RNNConfig};

/// A recurrent layer of `tch`, whose variables it keeps to itself, and these variables.
macro_rules! recurrent {
    ($(#[$docs:meta])* $name:ident, $(#[$function_docs:meta])* $function:ident, $state:ty) => {
        $(#[$docs])*
        #[derive(Debug)]
        pub struct $name {
            inner: nn::$name,
            variables: Vec<(String, Role, Tensor)>,
        }

        $(#[$function_docs])*
        ///
        /// # Panics
        /// If libtorch cannot allocate the variables.
        pub fn $function<'a>(
            vs: impl Borrow<nn::Path<'a>>,
            in_features: i64,
            hidden_features: i64,
            config: RNNConfig,
        ) -> $name {
            let vs = vs.borrow();
            let inner = nn::$function(vs, in_features, hidden_features, config);
            $name { inner, variables: variables(vs, &config) }
        }

        impl RNN for $name {
            type State = $state;

            fn zero_state(&self, batch_size: i64) -> $state {
                self.inner.zero_state(batch_size)
            }

            fn step(&self, input: &Tensor, state: &$state) -> $state {
                self.inner.step(input, state)
            }

            fn seq_init(&self, input: &Tensor, state: &$state) -> (Tensor, $state) {
                self.inner.seq_init(input, state)
            }
        }

        impl FngdModule for $name {
            fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
                for (name, role, tensor) in &self.variables {
                    visit_parameter(tensor, *role, &path.child(name), visitor);
                }
            }
        }
    };
}

recurrent!(
    /// Long short-term memory, made by [`lstm`]. It trains with the plain gradient.
    LSTM,
    /// An LSTM with `tch`'s variables: `weight_ih_l0`, `[4 hidden_features, in_features]`, `weight_hh_l0`, `bias_ih_l0`,
    /// `bias_hh_l0`, and so on for each layer and direction.
    lstm,
    LSTMState
);

recurrent!(
    /// Gated recurrent unit, made by [`gru`]. It trains with the plain gradient.
    GRU,
    /// A GRU with `tch`'s variables: `weight_ih_l0`, `[3 hidden_features, in_features]`, `weight_hh_l0`, `bias_ih_l0`,
    /// `bias_hh_l0`, and so on for each layer and direction.
    gru,
    GRUState
);

/// What `tch` has just made at `vs`.
fn variables(vs: &nn::Path<'_>, config: &RNNConfig) -> Vec<(String, Role, Tensor)> {
    let suffixes: &[&str] = if config.bidirectional { &["", "_reverse"] } else { &[""] };
    let kinds = [("weight", Role::Weight), ("bias", Role::Bias)];
    let kinds = if config.has_biases { &kinds[..] } else { &kinds[..1] };
    let mut variables = Vec::new();
    for layer in 0..config.num_layers {
        for suffix in suffixes {
            for (kind, role) in kinds {
                for gate in ["ih", "hh"] {
                    let name = format!("{kind}_{gate}_l{layer}{suffix}");
                    if let Some(tensor) = vs.get(&name) {
                        variables.push((name, *role, tensor));
                    }
                }
            }
        }
    }
    variables
}
