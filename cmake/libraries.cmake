find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(CURL 7.88 REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
# Debian's package of it states no version.
find_package(prometheus-cpp CONFIG REQUIRED COMPONENTS core)
find_package(ZLIB REQUIRED)
find_package(SQLite3 3.40 REQUIRED)
find_path(PROTOZERO_INCLUDE_DIR protozero/pbf_writer.hpp REQUIRED)  # header-only, without a CMake package
find_package(GTest 1.12 REQUIRED)

# Boost.Asio is used header-only with coroutines; no deprecated interfaces.
add_library(project_asio INTERFACE)
target_link_libraries(project_asio INTERFACE Boost::headers Threads::Threads OpenSSL::SSL)
target_compile_definitions(project_asio INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_BEAST_USE_STD_STRING_VIEW BOOST_ASIO_DISABLE_BOOST_COROUTINE)

# libssh2: built from the distribution's patched source by scripts/libssh2, or the system's.
# Either way TUNNEL_LIBSSH2_PACKAGE and TUNNEL_LIBSSH2_FIXES say what it is.
add_library(project_libssh2 INTERFACE)
if(TUNNEL_SYSTEM_LIBSSH2)
  include(${CMAKE_CURRENT_LIST_DIR}/system_libssh2.cmake)
else()
  if(NOT EXISTS ${TUNNEL_LIBSSH2_ROOT}/stamp)
    message(FATAL_ERROR "No libssh2 in ${TUNNEL_LIBSSH2_ROOT}: run scripts/libssh2 (scripts/build does), "
      "or configure with -DTUNNEL_SYSTEM_LIBSSH2=ON")
  endif()
  # Read again when scripts/libssh2 has replaced it.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${TUNNEL_LIBSSH2_ROOT}/package.cmake)
  include(${TUNNEL_LIBSSH2_ROOT}/package.cmake)
  target_include_directories(project_libssh2 SYSTEM INTERFACE ${TUNNEL_LIBSSH2_ROOT}/include)
  target_link_libraries(project_libssh2 INTERFACE ${TUNNEL_LIBSSH2_ROOT}/lib/libssh2.a OpenSSL::Crypto)
  target_compile_definitions(project_libssh2 INTERFACE TUNNEL_LIBSSH2_PRIVATE)
  # libcurl brings the distribution's libssh2 for SFTP; ours must not step in for it.
  target_link_options(project_libssh2 INTERFACE LINKER:--exclude-libs,libssh2.a)
  # Its source of random padding is replaced in tunneld/ssh/libssh2_engine.c.
  target_link_options(project_libssh2 INTERFACE LINKER:--wrap=_libssh2_openssl_random)
  # The private headers, for C only: the shims are C, and names like "session.h" stay out of our C++.
  target_include_directories(project_libssh2 SYSTEM INTERFACE
    $<$<COMPILE_LANGUAGE:C>:${TUNNEL_LIBSSH2_ROOT}/private>)
endif()
message(STATUS "libssh2: ${TUNNEL_LIBSSH2_PACKAGE}")

# build_info.h, for `--version --deps`: the version, and which libssh2 with which fixes is inside.
configure_file(${CMAKE_CURRENT_LIST_DIR}/build_info.h.in ${CMAKE_BINARY_DIR}/generated/build_info.h @ONLY)
add_library(project_build_info INTERFACE)
target_include_directories(project_build_info INTERFACE ${CMAKE_BINARY_DIR}/generated)
