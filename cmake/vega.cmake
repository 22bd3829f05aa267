# The script that draws the figures of reports: Vega, Vega-Lite and Vega-Embed in one file, out of
# the PyPI package vl-convert-python in .venv. Without it reports have their tables but no drawings.
set(NFSCALE_VEGA_FILE ${CMAKE_BINARY_DIR}/vega.js)
set(vega_size 0)
if(EXISTS ${NFSCALE_VEGA_FILE})
  file(SIZE ${NFSCALE_VEGA_FILE} vega_size)
endif()
if(vega_size EQUAL 0)
  execute_process(
    COMMAND ${CMAKE_SOURCE_DIR}/.venv/bin/python -c
      "import sys, vl_convert; open(sys.argv[1], 'w', encoding='utf-8').write(vl_convert.javascript_bundle().replace('</script', r'<\\/script'))"
      ${NFSCALE_VEGA_FILE}
    RESULT_VARIABLE vega_result OUTPUT_QUIET ERROR_QUIET)
  if(NOT vega_result EQUAL 0)
    message(WARNING "no vl-convert-python in .venv (run ./dev setup): reports will have no drawings")
    file(WRITE ${NFSCALE_VEGA_FILE} "")
  endif()
endif()
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/study/vega.cpp PROPERTIES
  COMPILE_DEFINITIONS "NFSCALE_VEGA_FILE=\"${NFSCALE_VEGA_FILE}\";NFSCALE_VEGA_LICENSE=\"${CMAKE_SOURCE_DIR}/src/study/vega-license.txt\""
  OBJECT_DEPENDS "${NFSCALE_VEGA_FILE};${CMAKE_SOURCE_DIR}/src/study/vega-license.txt")
