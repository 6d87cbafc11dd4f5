plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.edgelra.sample"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.edgelra.sample"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    kotlinOptions {
        jvmTarget = "11"
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }

    androidResources {
        noCompress += listOf("data", "onnx", "ort", "safetensors")
    }
}

dependencies {
    implementation(project(":edgelra"))
    implementation("com.google.code.gson:gson:2.11.0")
}
