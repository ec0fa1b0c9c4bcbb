/* Written by make_image_cases.py with Pillow 13.0.0. */
#ifndef DOCUSEARCH_TESTS_UNIT_MODEL_IMAGE_CASES_H
#define DOCUSEARCH_TESTS_UNIT_MODEL_IMAGE_CASES_H

enum kind { NOISE, EDGES, FLAT, SMOOTH };
static const struct image_case {
    int width, height, to_width, to_height;
    enum kind kind;
    const char *sha256;
} cases[] = {
    {1, 1, 448, 448, NOISE, "65aedc21285425fb9de40df69878e392b6929be83cf8632edd1ad86bd4461ce5"},
    {1, 1, 1, 1, NOISE, "bc1dc63ec073dbc4cccd919d20342b07628a9f2a4b75ec1a71e807f16cd12b90"},
    {2, 3, 1, 1, EDGES, "8fa12298a37a2d8c24880ec18a1cfbe7b4ddcbb616dde9b4f395c4a8e28b0397"},
    {3, 2, 5, 7, EDGES, "cbd99e16ffb97523aa560a70ee80e94908043a7ce488d45c8a69614c4353df07"},
    {7, 5, 448, 448, EDGES, "3a50581235b46a960afb984a680bc167343149dcbe447b9ecbb2327017207fd8"},
    {448, 448, 448, 448, NOISE, "2bdb02c852cc17f79a5dc2b7e64aeeb4cf769550d7c78ebd426eb9ba85fb35aa"},
    {448, 100, 448, 448, NOISE, "c5ecb320b53200678cc218c01345531757aa918f68906713c63f40a956d6ffe1"},
    {100, 448, 448, 448, NOISE, "5042c765ae432a77f2ecca0cd3dd7b74d8ab3fed1a6e168368a8987515290c27"},
    {447, 449, 448, 448, NOISE, "3bb224ee54f1aa2ed6568e6e0857a6bef6d210467c021fa184d4bd0588f74eb7"},
    {1240, 1754, 448, 448, NOISE,
     "2f0871aee774dfd916896a5540c29627e1ec2d2cf24298249b95f065629bb6d5"},
    {1240, 1754, 448, 448, SMOOTH,
     "a3e41f45660eb033d8f1f71dd5b91d7cbb09f5ec89c96c2259fea2663424cf52"},
    {1240, 1754, 448, 448, EDGES,
     "8de7999fa4c28bb1b55a555692e19c16ed519382b0de81462628ab18067505a3"},
    {612, 792, 448, 448, EDGES, "04d53c1683c0dd7035d69099ccfcea2888c5f718ba91a1ac1eebb3862de330c8"},
    {596, 842, 448, 448, NOISE, "66f344021b3a68dc3e9524d77d85ec771bc6b3b2a7c051804705d5712e25d6e7"},
    {500, 1500, 448, 448, NOISE,
     "66e17226628e8f1a8dc7f4106c22dd794cd5cb0a7d4aa777466c84fa5b727136"},
    {1754, 1240, 448, 448, NOISE,
     "14314d024f130c217304e4a4797743521ecb0f7d8fd713ad38ede2acb9aee3e0"},
    {20000, 10, 448, 448, EDGES,
     "3f0f0e7bfc633a966288cc3f03caf31086d71e7beec3eabbd6ef50dce0435f80"},
    {10, 20000, 448, 448, EDGES,
     "0a7651fd052382bcf2ac2516b757492993d32416c9e6892044322531cca97066"},
    {200000, 1, 448, 448, NOISE,
     "6c5c7544c1b59b458411565a9d3a1db384be0443738914d9cca7457ceaf8dee0"},
    {1, 200000, 448, 448, NOISE,
     "e1b0394257f0e2f6db2fbd1db0b5710a9288188ffd1d9d17b3419e7ab505c1df"},
    {449, 451, 112, 112, NOISE, "17dafeb95d68a3300923fdc0535104db449b08b89edaed9609873690ad287557"},
    {300, 200, 113, 31, EDGES, "2fe3dcd4ecbcdf00dc17a77f8eeacd59d34991357397d159af0cb3f6bd847702"},
    {64, 64, 448, 448, FLAT, "fa4e2162e846f5cfff286e8b7a90b67bcff26372536648fb576317d51a7b451e"},
    {1000, 3000, 448, 448, FLAT,
     "fa4e2162e846f5cfff286e8b7a90b67bcff26372536648fb576317d51a7b451e"},
    {4000, 3000, 448, 448, NOISE,
     "757860a0400c8e279e369b65e1979bf12700836b3298358dbb3425ab3c0de1ec"},
};
/* 5 x 4 to 3 x 3, NOISE */
static const unsigned char small_0[] = {
    50,  180, 91,  178, 144, 146, 151, 67, 224, 63,  115, 105, 86,  57,
    140, 143, 132, 90,  113, 44,  106, 89, 56,  172, 111, 154, 129,
};
/* 4 x 9 to 3 x 4, EDGES */
static const unsigned char small_1[] = {
    63, 96,  150, 101, 161, 44, 133, 57,  157, 48,  0,   135, 48,  93, 70, 126, 101, 22,
    73, 193, 204, 49,  225, 54, 102, 123, 98,  186, 198, 192, 191, 88, 0,  52,  120, 0,
};
/* 2 x 2 to 4 x 3, NOISE */
static const unsigned char small_2[] = {
    0,   201, 45,  19,  191, 60,  113, 167, 89, 161, 156, 104, 113, 224, 62,  125, 184, 89,
    163, 104, 141, 182, 73,  167, 240, 247, 79, 231, 177, 117, 212, 40,  192, 202, 0,   230,
};

#endif
