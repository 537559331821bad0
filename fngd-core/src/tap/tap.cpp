// The only C++ of this project: a tap on a layer's output, and bindings that tch lacks.
//
// A tap is an autograd node between a layer's output and whatever reads it. Backward hands the output's gradient on
// unchanged, and asks Rust for the gradient of the layer's weight and bias. The layer itself computed its output from
// detached parameters, so nothing is computed twice.
//
// Every entry returns 0, or 1 with a message in the caller's buffer. No exception crosses the border, in either direction.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <array>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

extern "C" {
// Fills `weight_grad` and `bias_grad` with owned tensors, or leaves them null for "no gradient from this use".
typedef int (*BackwardCallback)(void* context, at::Tensor* activations, at::Tensor* output_grads, at::Tensor** weight_grad,
                                at::Tensor** bias_grad, char* message, size_t capacity);
typedef void (*DropCallback)(void* context);
}

void report(char* message, size_t capacity, const char* text) {
  if (capacity == 0) return;
  std::strncpy(message, text, capacity - 1);
  message[capacity - 1] = '\0';
}

template <typename Body>
int guarded(char* message, size_t capacity, Body body) noexcept {
  try {
    body();
    return 0;
  } catch (const c10::Error& error) {
    report(message, capacity, error.what_without_backtrace());
  } catch (const std::exception& error) {
    report(message, capacity, error.what());
  } catch (...) {
    report(message, capacity, "an exception that is not a std::exception");
  }
  return 1;
}

at::Tensor take(at::Tensor* owned) {
  if (owned == nullptr) return {};
  at::Tensor tensor = std::move(*owned);
  delete owned;
  return tensor;
}

struct TapBackward : public Node {
  TapBackward(const at::Tensor& activations, void* context, BackwardCallback backward, DropCallback drop)
      : activations_(activations, /*is_output=*/false), context_(context), backward_(backward), drop_(drop) {}
  ~TapBackward() override { drop_(context_); }

  std::string name() const override { return "FngdTapBackward"; }
  void release_variables() override { activations_.reset_data(); }

  // Edges: 0 the layer's output, 1 its weight, 2 its bias.
  variable_list apply(variable_list&& grads) override {
    variable_list result(num_outputs());
    if (!grads[0].defined()) return result;
    at::Tensor activations = activations_.unpack().detach();
    at::Tensor output_grads = std::move(grads[0]);
    at::Tensor* weight_grad = nullptr;
    at::Tensor* bias_grad = nullptr;
    char message[1024] = "";
    at::AutoGradMode no_grad(false);
    const int status =
        backward_(context_, &activations, &output_grads, &weight_grad, &bias_grad, message, sizeof(message));
    result[1] = take(weight_grad);
    at::Tensor bias = take(bias_grad);
    if (num_outputs() > 2) result[2] = std::move(bias);
    if (status != 0) throw std::runtime_error(message);
    if (task_should_compute_output(0)) result[0] = std::move(output_grads);
    return result;
  }

 private:
  SavedVariable activations_;
  void* context_;
  BackwardCallback backward_;
  DropCallback drop_;
};

std::vector<at::Tensor> list(at::Tensor* const* tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) result.push_back(*tensors[i]);
  return result;
}

bool same_layout(const at::Tensor& left, const at::Tensor& right) {
  if (left.sizes() != right.sizes()) return false;
  for (int64_t i = 0; i < left.dim(); ++i) {
    if (left.size(i) > 1 && left.stride(i) != right.stride(i)) return false;
  }
  return true;
}

// libtorch's fused rules walk all tensors of a parameter side by side through memory, and do not check that this is right.
void require_layout(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& states) {
  for (size_t i = 0; i < states.size(); ++i) {
    TORCH_CHECK(parameters[i].is_non_overlapping_and_dense(), "parameter ", i, ": its memory has gaps");
    TORCH_CHECK(same_layout(parameters[i], states[i]), "parameter ", i, ": its state has another layout");
  }
}

// The gradients, those of another layout than their parameter's copied into it.
std::vector<at::Tensor> grads_like(const std::vector<at::Tensor>& parameters, at::Tensor* const* grads) {
  auto result = list(grads, parameters.size());
  for (size_t i = 0; i < result.size(); ++i) {
    TORCH_CHECK(parameters[i].is_non_overlapping_and_dense(), "parameter ", i, ": its memory has gaps");
    if (!same_layout(parameters[i], result[i])) result[i] = at::empty_like(parameters[i]).copy_(result[i]);
  }
  return result;
}

}  // namespace

extern "C" {

// Returns `output` with a tap on it. Owns `context` from the call on, whatever happens.
int fngd_tap(at::Tensor** result, at::Tensor* output, at::Tensor* activations, at::Tensor* weight, at::Tensor* bias,
             void* context, BackwardCallback backward, DropCallback drop, char* message, size_t capacity) noexcept {
  *result = nullptr;
  bool owned = false;
  const int status = guarded(message, capacity, [&] {
    std::shared_ptr<TapBackward> node(new TapBackward(*activations, context, backward, drop), torch::autograd::deleteNode);
    owned = true;
    node->set_next_edges(bias == nullptr ? torch::autograd::collect_next_edges(*output, *weight)
                                         : torch::autograd::collect_next_edges(*output, *weight, *bias));
    // Shares storage and version counter, so that an in-place operation after the tap stays legal and stays noticed.
    at::Tensor tapped = output->tensor_data();
    torch::autograd::set_history(tapped, node);
    *result = new at::Tensor(std::move(tapped));
  });
  if (status != 0 && !owned) drop(context);
  return status;
}

// Gradient of a convolution's weight, and of its bias if `bias_grad` is not null: at::convolution_backward with its mask.
int fngd_convolution_backward(at::Tensor** weight_grad, at::Tensor** bias_grad, at::Tensor* output_grads,
                              at::Tensor* activations, at::Tensor* weight, const int64_t* stride, const int64_t* padding,
                              const int64_t* dilation, const int64_t* output_padding, size_t spatial_dims, int transposed,
                              int64_t groups, char* message, size_t capacity) noexcept {
  *weight_grad = nullptr;
  return guarded(message, capacity, [&] {
    const bool with_bias = bias_grad != nullptr;
    const auto out_channels = output_grads->size(1);
    auto grads = at::convolution_backward(
        *output_grads, *activations, *weight,
        with_bias ? at::OptionalIntArrayRef(at::IntArrayRef(&out_channels, 1)) : at::OptionalIntArrayRef(std::nullopt),
        {stride, spatial_dims}, {padding, spatial_dims}, {dilation, spatial_dims}, transposed != 0,
        {output_padding, spatial_dims}, groups, std::array<bool, 3>{false, true, with_bias});
    *weight_grad = new at::Tensor(std::move(std::get<1>(grads)));
    if (with_bias) *bias_grad = new at::Tensor(std::move(std::get<2>(grads)));
  });
}

// a bᵀ for two matrices. On a CPU in float32 oneDNN's product, which on processors that MKL does not know is twice as fast as
// the one behind at::matmul; libtorch has it under this name for its own compiler.
int fngd_product_transposed(at::Tensor** result, at::Tensor* a, at::Tensor* b, char* message, size_t capacity) noexcept {
  *result = nullptr;
  return guarded(message, capacity, [&] {
    at::AutoGradMode no_grad(false);
    static const auto linear = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    const bool plain = !linear || !a->is_cpu() || a->scalar_type() != at::kFloat || !a->is_contiguous() ||
                       !b->is_contiguous() || a->numel() == 0 || b->numel() == 0;
    if (plain) {
      *result = new at::Tensor(at::matmul(*a, b->t()));
      return;
    }
    c10::impl::GenericList no_scalars(c10::OptionalType::create(c10::NumberType::get()));
    torch::jit::Stack stack{*a, *b, c10::IValue(), std::string("none"), std::move(no_scalars), std::string()};
    linear->callBoxed(&stack);
    *result = new at::Tensor(stack.at(0).toTensor());
  });
}

// One pass of torch.optim.SGD over all of a parameter list. Without momentum there are no buffers.
int fngd_sgd(at::Tensor* const* parameters, at::Tensor* const* grads, at::Tensor* const* buffers, size_t count,
             size_t buffer_count, double learning_rate, double weight_decay, double momentum, int nesterov, int first,
             char* message, size_t capacity) noexcept {
  return guarded(message, capacity, [&] {
    at::NoGradGuard no_grad;
    const auto parameter_list = list(parameters, count);
    const auto buffer_list = list(buffers, buffer_count);
    require_layout(parameter_list, buffer_list);
    at::_fused_sgd_(parameter_list, grads_like(parameter_list, grads), buffer_list, weight_decay, momentum, learning_rate,
                    /*dampening=*/0.0, nesterov != 0, /*maximize=*/false, first != 0);
  });
}

// One pass of torch.optim.AdamW over all of a parameter list, whose members have all been updated equally often.
int fngd_adamw(at::Tensor* const* parameters, at::Tensor* const* grads, at::Tensor* const* first_moments,
               at::Tensor* const* second_moments, size_t count, double learning_rate, double beta1, double beta2,
               double weight_decay, double epsilon, double steps, char* message, size_t capacity) noexcept {
  return guarded(message, capacity, [&] {
    at::NoGradGuard no_grad;
    if (count == 0) return;
    const auto parameter_list = list(parameters, count);
    const auto first_list = list(first_moments, count);
    const auto second_list = list(second_moments, count);
    require_layout(parameter_list, first_list);
    require_layout(parameter_list, second_list);
    const std::vector<at::Tensor> step_list(count, at::full({}, steps, parameter_list[0].options().dtype(at::kFloat)));
    at::_fused_adamw_(parameter_list, grads_like(parameter_list, grads), first_list, second_list, {}, step_list,
                      learning_rate, beta1, beta2, weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  });
}

// The Euclidean norm of all numbers in the tensors. Waits for the device.
int fngd_global_norm(double* norm, at::Tensor* const* tensors, size_t count, char* message, size_t capacity) noexcept {
  return guarded(message, capacity, [&] {
    at::NoGradGuard no_grad;
    *norm = count == 0 ? 0.0 : at::stack(at::_foreach_norm(list(tensors, count))).to(at::kDouble).norm().item<double>();
  });
}

// Adds `grad` to the tensor's `.grad`, or makes it that if there is none; a null `grad` clears it.
int fngd_accumulate_grad(at::Tensor* tensor, at::Tensor* grad, char* message, size_t capacity) noexcept {
  return guarded(message, capacity, [&] {
    at::AutoGradMode no_grad(false);
    at::Tensor& sum = tensor->mutable_grad();
    if (grad == nullptr) {
      sum.reset();
    } else if (sum.defined()) {
      sum.add_(*grad);
    } else {
      sum = *grad;
    }
  });
}

// Whether operations are recorded for backward on this thread; tch can set this but not read it.
int fngd_grad_enabled() noexcept { return at::GradMode::is_enabled() ? 1 : 0; }

// Equal for two handles of one tensor, and only for these: views of one storage differ.
const void* fngd_identity(const at::Tensor* tensor) noexcept { return tensor->unsafeGetTensorImpl(); }

}  // extern "C"
