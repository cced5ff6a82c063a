# cmake --install build/release --prefix /usr/local
# Programs, the shipped packs in the layout of this tree (tunnelctl finds ../share/tunnelctl/packs), and what
# tunnelctl writes about itself.
include(GNUInstallDirs)

install(TARGETS tunneld tunnelctl RUNTIME)
install(DIRECTORY packs dashboards alerts runbooks DESTINATION ${CMAKE_INSTALL_DATADIR}/tunnelctl
        PATTERN "*.test.yaml" EXCLUDE PATTERN "__pycache__" EXCLUDE)
install(FILES LICENSE docs/monitoring.md docs/tunnelctl.md docs/incident-watch.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(FILES deploy/systemd/tunnelctl-agent.service deploy/systemd/tunnelctl-incident-watch.service
        DESTINATION ${CMAKE_INSTALL_DATADIR}/tunnelctl/systemd)

# install_written(<file under the prefix> <arguments of tunnelctl>...): what the program prints.
function(install_written file)
  install(CODE "
    set(to \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${file}\")
    get_filename_component(folder \"\${to}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    message(STATUS \"Writing: \${to}\")
    execute_process(COMMAND \"$<TARGET_FILE:tunnelctl>\" ${ARGN} OUTPUT_FILE \"\${to}\" RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
      message(FATAL_ERROR \"tunnelctl ${ARGN}: \${status}\")
    endif()")
endfunction()
if(NOT CMAKE_CROSSCOMPILING)
  install_written(${CMAKE_INSTALL_MANDIR}/man1/tunnelctl.1 man)
  install_written(${CMAKE_INSTALL_DATADIR}/bash-completion/completions/tunnelctl completion bash)
  install_written(${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_tunnelctl completion zsh)
  install_written(${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/tunnelctl.fish completion fish)
endif()
