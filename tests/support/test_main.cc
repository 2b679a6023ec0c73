// Sets OpenBLAS up as the programs do, then runs the tests.
#include <gtest/gtest.h>

#include <iostream>

#include "core/kernels/blas.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (absl::Status status = attnprune::InitializeBlas(); !status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  return RUN_ALL_TESTS();
}
