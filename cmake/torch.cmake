# libtorch out of the PyPI wheel, linked without its CUDA half: libtorch_cpu and libc10 only.
# TORCH_ROOT is the folder `torch` of an installed wheel; by default that of .venv.
if(NOT NFSCALE_TORCH)
  return()
endif()
if(NOT TORCH_ROOT)
  file(GLOB found ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(LENGTH found count)
  if(NOT count EQUAL 1)
    message(FATAL_ERROR "no torch in .venv: run ./dev setup, or give -DTORCH_ROOT=.../site-packages/torch")
  endif()
  list(GET found 0 TORCH_ROOT)
endif()
set(torch_includes "${TORCH_ROOT}/include" "${TORCH_ROOT}/include/torch/csrc/api/include")
add_library(torch::c10 SHARED IMPORTED)
set_target_properties(torch::c10 PROPERTIES IMPORTED_LOCATION ${TORCH_ROOT}/lib/libc10.so
  INTERFACE_INCLUDE_DIRECTORIES "${torch_includes}" INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${torch_includes}")
add_library(torch::cpu SHARED IMPORTED)
set_target_properties(torch::cpu PROPERTIES IMPORTED_LOCATION ${TORCH_ROOT}/lib/libtorch_cpu.so)
target_link_libraries(torch::cpu INTERFACE torch::c10)
target_link_options(torch::cpu INTERFACE "LINKER:-rpath-link,${TORCH_ROOT}/../nvidia/cu13/lib")
# at::parallel_for is a template: it runs on libtorch's threads only where its users are compiled for
# OpenMP, and in g++'s form, of which the wheel carries the library.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(torch::cpu INTERFACE -fopenmp)
  target_link_libraries(torch::cpu INTERFACE ${TORCH_ROOT}/lib/libgomp.so.1)
else()
  message(WARNING "only g++ builds loops for several threads")
endif()
