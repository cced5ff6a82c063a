# room(<target> <folder> <rooms it may use>...): one static library of the folder's sources.
# Files directly in the folder only; main.cpp is left out (it belongs to the program).
function(room target folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp ${CMAKE_SOURCE_DIR}/${folder}/*.c)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  if(NOT sources)
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ${ARGN})
    return()
  endif()
  add_library(${target} STATIC ${sources})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE project_warnings PUBLIC project_asio ${ARGN})
  # Third-party libraries stay in their room.
  if(target STREQUAL "common")
    target_link_libraries(${target} PUBLIC spdlog::spdlog nlohmann_json::nlohmann_json PRIVATE yaml-cpp)
  elseif(target STREQUAL "tunneld_ssh")
    target_link_libraries(${target} PRIVATE project_libssh2)
    target_include_directories(${target} SYSTEM PRIVATE ${LIBSSH2_PRIVATE_INCLUDE})
  elseif(target STREQUAL "tunneld_admin")
    target_link_libraries(${target} PRIVATE prometheus-cpp::core)
  elseif(target MATCHES "_app$")
    target_link_libraries(${target} PRIVATE CLI11::CLI11)
  endif()
  if(TUNNEL_PCH)
    target_precompile_headers(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:<string$<ANGLE-R>> $<$<COMPILE_LANGUAGE:CXX>:<vector$<ANGLE-R>>
      $<$<COMPILE_LANGUAGE:CXX>:<memory$<ANGLE-R>> $<$<COMPILE_LANGUAGE:CXX>:<chrono$<ANGLE-R>>
      $<$<COMPILE_LANGUAGE:CXX>:<boost/asio.hpp$<ANGLE-R>>)
  endif()
endfunction()

# program(<name> <folder> <library>): the thin main.
function(program name folder library)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${folder}/main.cpp)
    add_executable(${name} ${CMAKE_SOURCE_DIR}/${folder}/main.cpp)
    target_link_libraries(${name} PRIVATE project_warnings ${library})
  endif()
endfunction()

# room_test(<room> <folder>): tests/<folder>/*_test.cpp against that room's library -> test_<room>.
function(room_test room folder)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${folder}/*_test.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${room} ${sources})
  target_link_libraries(test_${room} PRIVATE project_warnings ${room} GTest::gmock GTest::gtest_main)
  target_include_directories(test_${room} PRIVATE ${CMAKE_SOURCE_DIR})
  gtest_discover_tests(test_${room} TEST_PREFIX "${room}." DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)
endfunction()
