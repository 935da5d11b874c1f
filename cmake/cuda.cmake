# The cuda module, libnpos_cuda.so (docs/cuda.md).  Sets NPOS_CUDA_BUILT.
#
#   NPOS_CUDA=AUTO   built where nvcc, cuBLAS and cuDNN are and a GPU is visible or architectures are named
#   NPOS_CUDA=ON     built, or an error that says what is missing;  OFF: not built
#   NPOS_CUDA_ARCHITECTURES   "" or native: the visible GPUs' (none visible: all); all; or a list, as 80;90a;120
#
# Compiling takes minutes an architecture: that is why AUTO leaves a machine without a GPU alone.
set(NPOS_CUDA AUTO CACHE STRING "Build the cuda module: AUTO, ON or OFF")
set_property(CACHE NPOS_CUDA PROPERTY STRINGS AUTO ON OFF)
set(NPOS_CUDA_ARCHITECTURES "" CACHE STRING "native, all, or a list of GPU architectures such as 80;90a;120")
set(NPOS_CUDA_KNOWN 75 80 86 87 89 90a 100 120) # what `all` stands for, where the toolkit knows them
set(NPOS_CUDA_BUILT OFF)

# Why not: the first thing that is missing, or an empty text; finds nvcc and cuDNN by the way.
function(npos_cuda_missing reason)
  find_program(NPOS_NVCC nvcc HINTS ${CUDAToolkit_ROOT} ENV CUDA_PATH ENV CUDA_HOME
               PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT NPOS_NVCC)
    set(${reason} "no nvcc (CUDA's toolkit), neither in PATH nor in /usr/local/cuda/bin; CUDAToolkit_ROOT names its folder"
        PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${NPOS_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
  string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" version "${text}")
  set(version ${CMAKE_MATCH_1})
  if(NOT version OR version VERSION_LESS 12.5)
    set(${reason} "${NPOS_NVCC} is of CUDA '${version}', expected 12.5 or later" PARENT_SCOPE)
    return()
  endif()
  get_filename_component(bin ${NPOS_NVCC} REALPATH)
  get_filename_component(bin ${bin} DIRECTORY)
  set(places ${bin}/.. ${CUDNN_ROOT} $ENV{CUDNN_ROOT} $ENV{CUDNN_PATH})
  find_path(NPOS_CUDNN_INCLUDE cudnn_version.h HINTS ${places} PATH_SUFFIXES include)
  find_library(NPOS_CUDNN NAMES cudnn libcudnn.so.9 HINTS ${places} PATH_SUFFIXES lib64 lib)
  set(major "")
  if(NPOS_CUDNN_INCLUDE AND NPOS_CUDNN)
    file(STRINGS ${NPOS_CUDNN_INCLUDE}/cudnn_version.h text REGEX "define CUDNN_MAJOR")
    string(REGEX MATCH "[0-9]+$" major "${text}")
  endif()
  if(NOT major OR major LESS 9)
    set(${reason} "no cuDNN 9 (library: ${NPOS_CUDNN}, headers: ${NPOS_CUDNN_INCLUDE}, version '${major}'); CUDNN_ROOT names its folder"
        PARENT_SCOPE)
    return()
  endif()
  set(${reason} "" PARENT_SCOPE)
endfunction()

# The visible GPUs' capabilities, as 75;90a.
function(npos_cuda_visible list)
  set(seen)
  find_program(NPOS_NVIDIA_SMI nvidia-smi)
  mark_as_advanced(NPOS_NVIDIA_SMI)
  if(NPOS_NVIDIA_SMI)
    execute_process(COMMAND ${NPOS_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE failed TIMEOUT 60)
    if(failed EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]" seen "${text}")
      string(REPLACE "." "" seen "${seen}")
      list(TRANSFORM seen REPLACE "^90$" "90a")
      list(REMOVE_DUPLICATES seen)
    endif()
  endif()
  set(${list} "${seen}" PARENT_SCOPE)
endfunction()

# -gencode flags of `architectures`; with `ptx`, the newest one's intermediate code too, for GPUs to come.
function(npos_cuda_gencode flags architectures ptx)
  set(newest 0)
  foreach(arch ${architectures})
    list(APPEND out "-gencode=arch=compute_${arch},code=sm_${arch}")
    string(REGEX MATCH "^[0-9]+" number "${arch}")
    if(number GREATER newest)
      set(newest ${number})
    endif()
  endforeach()
  if(ptx)
    list(APPEND out "-gencode=arch=compute_${newest},code=compute_${newest}")
  endif()
  set(${flags} "${out}" PARENT_SCOPE)
endfunction()

# What the toolkit knows of `all`.
function(npos_cuda_all list)
  execute_process(COMMAND ${NPOS_NVCC} --list-gpu-code OUTPUT_VARIABLE text)
  foreach(arch ${NPOS_CUDA_KNOWN})
    string(REGEX REPLACE "[a-z]+$" "" number ${arch})
    if(text MATCHES "sm_${number}\n")
      list(APPEND known ${arch})
    endif()
  endforeach()
  set(${list} "${known}" PARENT_SCOPE)
endfunction()

string(TOUPPER "${NPOS_CUDA}" npos_cuda_wish)
if(NOT npos_cuda_wish MATCHES "^(AUTO|ON|OFF|1|0|TRUE|FALSE|YES|NO)$")
  message(FATAL_ERROR "NPOS_CUDA is '${NPOS_CUDA}', expected AUTO, ON or OFF")
endif()
if(npos_cuda_wish MATCHES "^(OFF|0|FALSE|NO)$")
  return()
endif()
npos_cuda_missing(npos_cuda_reason)
if(NOT npos_cuda_reason)
  set(npos_cuda_list ${NPOS_CUDA_ARCHITECTURES})
  set(npos_cuda_ptx OFF)
  if(NOT npos_cuda_list OR npos_cuda_list STREQUAL native)
    npos_cuda_visible(npos_cuda_list)
    if(NOT npos_cuda_list)
      set(npos_cuda_reason "no GPU is visible; -DNPOS_CUDA=ON or -DNPOS_CUDA_ARCHITECTURES=... builds it all the same")
      set(npos_cuda_list all)
    endif()
  endif()
  if(npos_cuda_list STREQUAL all)
    npos_cuda_all(npos_cuda_list)
    set(npos_cuda_ptx ON)
  endif()
endif()
if(npos_cuda_reason AND npos_cuda_wish STREQUAL AUTO)
  message(STATUS "cuda module: not built: ${npos_cuda_reason}")
  return()
elseif(npos_cuda_reason AND NOT npos_cuda_list)
  message(FATAL_ERROR "NPOS_CUDA=${NPOS_CUDA}: ${npos_cuda_reason}")
endif()

# The flags below name the architectures; OFF keeps CMake from adding its own.
set(CMAKE_CUDA_ARCHITECTURES OFF)
set(CMAKE_CUDA_COMPILER ${NPOS_NVCC} CACHE FILEPATH "CUDA's compiler")
enable_language(CUDA)
set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
find_package(CUDAToolkit REQUIRED)
npos_cuda_gencode(npos_cuda_flags "${npos_cuda_list}" ${npos_cuda_ptx})
message(STATUS "cuda module: CUDA ${CMAKE_CUDA_COMPILER_VERSION}, cuDNN ${NPOS_CUDNN}, architectures ${npos_cuda_list}")

file(GLOB NPOS_CUDA_SOURCES CONFIGURE_DEPENDS src/devices/cuda/*.cu)
set(npos_cuda_exports ${CMAKE_SOURCE_DIR}/src/devices/cuda/exports.map)
add_library(npos_cuda MODULE ${NPOS_CUDA_SOURCES})
# CMake 3.25 does not know nvcc's C++20: the flag stands below instead of a property.
target_include_directories(npos_cuda PRIVATE include src)
target_include_directories(npos_cuda SYSTEM PRIVATE ${NPOS_CUDNN_INCLUDE})
target_compile_options(npos_cuda PRIVATE -std=c++20 ${npos_cuda_flags} -lineinfo
                       "SHELL:-Xcompiler -Wall,-Wextra,-Wno-missing-field-initializers"
                       $<$<BOOL:${NPOS_WERROR}>:SHELL:-Werror all-warnings>)
target_link_libraries(npos_cuda PRIVATE CUDA::cublas CUDA::cublasLt ${NPOS_CUDNN})
target_link_options(npos_cuda PRIVATE LINKER:--no-undefined LINKER:--version-script=${npos_cuda_exports})
# CMake takes the toolkit's folder for one that the loader searches; only ldconfig's list decides that.
get_filename_component(npos_cuda_rpath ${NPOS_CUDNN} DIRECTORY)
list(APPEND npos_cuda_rpath ${CUDAToolkit_LIBRARY_DIR})
list(REMOVE_DUPLICATES npos_cuda_rpath)
list(FILTER npos_cuda_rpath EXCLUDE REGEX "^(/usr)?/lib(64|/[^/]*)?$")
set_target_properties(npos_cuda PROPERTIES
    CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Static
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} LINK_DEPENDS ${npos_cuda_exports}
    BUILD_RPATH "${npos_cuda_rpath}" INSTALL_RPATH "${npos_cuda_rpath}")
install(TARGETS npos_cuda LIBRARY DESTINATION lib/npos)
set(NPOS_CUDA_BUILT ON)
