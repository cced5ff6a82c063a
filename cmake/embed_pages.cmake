# cmake -DPAGES=a.md|b.md -DOUTPUT=x.cpp -DHEADER=room/pages.h -DTYPE=room::Page -DFUNCTION=room::pages
#   -P embed_pages.cmake
# Writes the definition of `std::span<const TYPE> FUNCTION()`, which HEADER declares: for each page its file's
# stem and its text, as C++ raw strings.
cmake_policy(SET CMP0007 NEW)
string(REPLACE "|" ";" PAGES "${PAGES}")
set(rows "")
foreach(page ${PAGES})
  get_filename_component(name ${page} NAME_WE)
  file(READ ${page} text)
  if(text MATCHES "\\)page\"")
    message(FATAL_ERROR "${page}: contains )page\", which ends the raw string it is embedded in")
  endif()
  string(APPEND rows "    {\"${name}\", R\"page(${text})page\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"${HEADER}\"

#include <vector>

std::span<const ${TYPE}> ${FUNCTION}() {
  static const std::vector<${TYPE}> pages{
${rows}  };
  return pages;
}
")
