find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(prometheus-cpp 1.0 CONFIG REQUIRED COMPONENTS core)
find_package(GTest 1.12 REQUIRED)

# Boost.Asio is used header-only with coroutines; no deprecated interfaces.
add_library(project_asio INTERFACE)
target_link_libraries(project_asio INTERFACE Boost::headers Threads::Threads OpenSSL::SSL)
target_compile_definitions(project_asio INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_BEAST_USE_STD_STRING_VIEW BOOST_ASIO_DISABLE_BOOST_COROUTINE)

# libssh2: built from the distribution's patched source by scripts/libssh2, or the system's.
add_library(project_libssh2 INTERFACE)
if(TUNNEL_SYSTEM_LIBSSH2)
  find_path(LIBSSH2_INCLUDE libssh2.h REQUIRED)
  find_library(LIBSSH2_LIBRARY ssh2 REQUIRED)
  target_include_directories(project_libssh2 SYSTEM INTERFACE ${LIBSSH2_INCLUDE})
  target_link_libraries(project_libssh2 INTERFACE ${LIBSSH2_LIBRARY})
else()
  target_include_directories(project_libssh2 SYSTEM INTERFACE ${TUNNEL_LIBSSH2_ROOT}/include)
  target_link_libraries(project_libssh2 INTERFACE ${TUNNEL_LIBSSH2_ROOT}/lib/libssh2.a OpenSSL::Crypto)
  target_compile_definitions(project_libssh2 INTERFACE TUNNEL_LIBSSH2_PRIVATE)
  # The private headers, for the one file that needs them: tunneld/ssh/libssh2_engine.c
  set(LIBSSH2_PRIVATE_INCLUDE ${TUNNEL_LIBSSH2_ROOT}/private)
endif()
