/** The project's own TensorFlow operations, by TensorFlow's C API: their inputs, results and registration. */
#pragma once
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

using Shape = std::vector<int64_t>;

/** The elements of an input or a result. */
template <typename T>
struct Array {
  T* data;
  Shape shape;

  int64_t size() const {
    int64_t product = 1;
    for (int64_t side : shape) product *= side;
    return product;
  }
  int64_t width() const { return shape.back(); }
  int64_t rows() const { return width() == 0 ? 0 : size() / width(); }
};
using Floats = Array<float>;

/** One call of an operation. An exception in its body becomes the operation's error. */
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus(), TF_DeleteStatus) {}

  int inputs() const { return TF_NumInputs(context_); }

  /** Input i; its type is that of the operation's declaration. */
  template <typename T = float>
  Array<T> input(int i) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, i, &tensor, status_.get());
    return hold<T>(tensor);
  }

  template <typename T = float>
  T scalar(int i) {
    Array<T> array = input<T>(i);
    require(array.shape.empty(), "the input must be a scalar");
    return *array.data;
  }

  Floats result(int i, const Shape& shape) {
    int64_t size = 1;
    for (int64_t side : shape) size *= side;
    return hold<float>(TF_AllocateOutput(context_, i, TF_FLOAT, shape.data(), shape.size(),
                                         size * sizeof(float), status_.get()));
  }

  /** Result i, in the memory of input `from`, which is consumed. */
  Floats take(int i, int from) {
    Floats array = input(from);
    TF_SetOutput(context_, i, held_.back().get(), status_.get());
    check();
    return array;
  }

  void fail(const char* message) {
    TF_SetStatus(status_.get(), TF_INVALID_ARGUMENT, message);
    TF_OpKernelContext_Failure(context_, status_.get());
  }

  static void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
  }

 private:
  template <typename T>
  Array<T> hold(TF_Tensor* tensor) {
    check();
    held_.emplace_back(tensor, TF_DeleteTensor);
    Array<T> array{static_cast<T*>(TF_TensorData(tensor)), Shape(TF_NumDims(tensor))};
    for (size_t i = 0; i < array.shape.size(); i++) array.shape[i] = TF_Dim(tensor, i);
    return array;
  }

  void check() { require(TF_GetCode(status_.get()) == TF_OK, TF_Message(status_.get())); }

  TF_OpKernelContext* context_;
  std::unique_ptr<TF_Status, void (*)(TF_Status*)> status_;
  std::vector<std::unique_ptr<TF_Tensor, void (*)(TF_Tensor*)>> held_;
};

template <void (*body)(Call&)>
void compute(void*, TF_OpKernelContext* context) {
  Call call(context);
  try {
    body(call);
  } catch (const std::exception& error) {
    call.fail(error.what());
  }
}

/** Registers an operation and its CPU kernel with TensorFlow. "n*float" is an optional input. */
template <void (*body)(Call&)>
void define(const char* name, std::initializer_list<const char*> inputs,
            std::initializer_list<const char*> outputs) {
  std::unique_ptr<TF_Status, void (*)(TF_Status*)> status(TF_NewStatus(), TF_DeleteStatus);
  const auto check = [&] {
    if (TF_GetCode(status.get()) == TF_OK) return;
    std::fprintf(stderr, "%s: %s\n", name, TF_Message(status.get()));
    std::abort();
  };
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) {
    if (std::string(input).find("n*") != std::string::npos)
      TF_OpDefinitionBuilderAddAttr(definition, "n: int >= 0");
    TF_OpDefinitionBuilderAddInput(definition, input);
  }
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  TF_RegisterOpDefinition(definition, status.get());
  check();
  TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", nullptr, compute<body>, nullptr),
                           status.get());
  check();
}
