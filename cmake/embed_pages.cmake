# cmake -DPAGES=a.md|b.md -DOUTPUT=x.cpp -P embed_pages.cmake: the pages as C++ raw strings, by file stem.
cmake_policy(SET CMP0007 NEW)
string(REPLACE "|" ";" PAGES "${PAGES}")
set(rows "")
foreach(page ${PAGES})
  get_filename_component(code ${page} NAME_WE)
  file(READ ${page} text)
  if(text MATCHES "\\)page\"")
    message(FATAL_ERROR "${page}: contains )page\", which ends the raw string it is embedded in")
  endif()
  string(APPEND rows "    {\"${code}\", R\"page(${text})page\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"tunnelctl/commands/error_pages.h\"

#include <vector>

namespace tunnelctl {

std::span<const ErrorPage> error_pages() {
  static const std::vector<ErrorPage> pages{
${rows}  };
  return pages;
}

}  // namespace tunnelctl
")
