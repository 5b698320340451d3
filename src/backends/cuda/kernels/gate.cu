// The gates: gate(r) of a router weight r, which multiplies a selected token's block output, and its derivative. Included by
// the kernels that route. `gate` is a kernel argument, the same for every thread: a code of gate.ts. An unknown code gives NaN.

#define GATE_RAW 0     // r
#define GATE_SIGMOID 1 // 1 / (1 + exp(-r))

#define NOT_A_NUMBER __int_as_float(0x7fffffff)

__device__ inline float gateValue(int gate, float r) {
  switch (gate) {
  case GATE_RAW: return r;
  case GATE_SIGMOID: return sigmoid(r);
  }
  return NOT_A_NUMBER;
}

// gate'(r), from r and value = gate(r).
__device__ inline float gateSlope(int gate, float r, float value) {
  switch (gate) {
  case GATE_RAW: return 1.0f;
  case GATE_SIGMOID: return value * (1.0f - value);
  }
  return NOT_A_NUMBER;
}
