# Warnings are errors; ccache and mold where found.
add_library(project_warnings INTERFACE)
target_compile_options(project_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wcast-qual -Wunused -Wnull-dereference -Wformat=2 -Werror
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast>
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 sees a false mismatch in awaitable frames, false null dereferences under sanitizers, and impossible
  # lengths in inlined std::string concatenation (GCC PR 105651, PR 105329).
  # -Wshadow here only: clang's also counts names of enclosing namespaces.
  target_compile_options(project_warnings INTERFACE -Wshadow -Wno-null-dereference -Wno-restrict -Wno-stringop-overflow
    -Wno-stringop-overread -Wno-array-bounds
    $<$<COMPILE_LANGUAGE:CXX>:-fcoroutines> $<$<COMPILE_LANGUAGE:CXX>:-Wno-mismatched-new-delete>)
endif()

# Static libraries and programs only, so -fPIE fits all and one precompiled header serves them all.
add_compile_options(-fPIE -fstack-protector-strong)
add_link_options(-pie -Wl,-z,relro,-z,now)
add_compile_definitions($<$<CONFIG:Release,RelWithDebInfo>:_FORTIFY_SOURCE=2>)

find_program(CCACHE ccache)
if(CCACHE)
  # A precompiled header hits only if ccache may overlook its time stamps and macros.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(TUNNEL_SANITIZE)
  add_compile_options(-fsanitize=${TUNNEL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TUNNEL_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # The instrumentation hides initialisations from g++ 12's flow analysis, and Asio's fences are unknown to TSan.
    target_compile_options(project_warnings INTERFACE -Wno-maybe-uninitialized)
    if(TUNNEL_SANITIZE MATCHES "thread")
      target_compile_options(project_warnings INTERFACE -Wno-tsan)
    endif()
  endif()
endif()
if(TUNNEL_FUZZ OR TUNNEL_COVERAGE)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "TUNNEL_FUZZ and TUNNEL_COVERAGE need clang: use `cmake --preset asan`")
  endif()
endif()
if(TUNNEL_FUZZ)
  # Every room reports its coverage to the fuzzer; only the targets get libFuzzer's main.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(TUNNEL_COVERAGE)
  # Up to four counts a program, into which every run of it merges its own as it ends. The name is compiled in, so
  # that no test has to hand it on.
  add_compile_options(-fprofile-instr-generate=${CMAKE_BINARY_DIR}/profiles/%4m.profraw -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()
