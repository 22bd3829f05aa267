# What `cmake --install` leaves: the program, and a library for programs of others, found by
# find_package(nfscale). examples/embed uses it, tests/embed.py holds it.
nfscale_sources(embed embed)
add_library(nfscale_embed STATIC ${embed})
target_link_libraries(nfscale_embed PRIVATE nfscale_torch)
set_target_properties(nfscale_embed PROPERTIES EXPORT_NAME embed)
target_include_directories(nfscale_embed INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src/embed> $<INSTALL_INTERFACE:include>)
nfscale_target(nfscale_embed)

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/nfscale)
# The installed program finds libtorch where the build found it.
set_target_properties(nfscale PROPERTIES INSTALL_RPATH ${TORCH_ROOT}/lib)
install(TARGETS nfscale_core nfscale_torch nfscale_embed EXPORT nfscale ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS nfscale RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES src/embed/nfscale.h DESTINATION include)
install(EXPORT nfscale NAMESPACE nfscale:: DESTINATION ${package})
configure_package_config_file(cmake/nfscaleConfig.cmake.in ${CMAKE_BINARY_DIR}/nfscaleConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/nfscaleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/nfscaleConfig.cmake ${CMAKE_BINARY_DIR}/nfscaleConfigVersion.cmake cmake/torch.cmake DESTINATION ${package})

add_test(NAME embed COMMAND ${CMAKE_SOURCE_DIR}/tests/embed.py ${CMAKE_COMMAND} ${CMAKE_BINARY_DIR} $<TARGET_FILE:nfscale>)
set_tests_properties(embed PROPERTIES LABELS cli TIMEOUT 300)
